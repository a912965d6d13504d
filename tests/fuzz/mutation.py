"""Mutations: inputs that resemble those of a corpus.

A case is determined by its number and the seed, so one that fails can be repeated alone, whatever ran before.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

MAX_BYTES = 32 * 1024

CORPUS = Path(__file__).parent / "corpus"
"""One folder per target: a file per input, and `tokens`, which has one per line, written as in Python."""

_NOISE = (
    b"\0",
    b"\xff",
    b"%",
    b"%00",
    b"\r\n",
    b"\xc3\xa9",
    b'"',
    b"\\",
    b",",
    b";",
    b"=",
    b"-",
    b"/",
    b"9" * 30,
)


def read_inputs(folder: Path) -> list[bytes]:
    """Return the inputs of a corpus, in the order of their names."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "tokens"]


def read_tokens(folder: Path) -> list[bytes]:
    """Return the tokens of a target: words that a random change would hardly ever spell."""
    lines = (folder / "tokens").read_text("ascii").splitlines()
    return [line.encode("ascii").decode("unicode_escape").encode("latin-1") for line in lines if line]


def mutate(inputs: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    """Return one of the inputs after one to five changes."""
    content = dice.choice(inputs)
    for _ in range(dice.choice((1, 1, 2, 3, 5))):
        content = dice.choice(_CHANGES)(content, inputs, tokens, dice)[:MAX_BYTES]
    return content


def _span(content: bytes, dice: random.Random) -> tuple[int, int]:
    begin = dice.randint(0, len(content))
    return begin, min(len(content), begin + dice.choice((1, 1, 2, 4, 8, 32, 200)))


def _insert(content: bytes, inputs: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    begin, _ = _span(content, dice)
    return content[:begin] + dice.choice(tokens) + content[begin:]


def _replace(content: bytes, inputs: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    begin, end = _span(content, dice)
    return content[:begin] + dice.choice((*tokens, *_NOISE)) + content[end:]


def _disturb(content: bytes, inputs: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    begin, end = _span(content, dice)
    return content[:begin] + dice.randbytes(end - begin) + content[end:]


def _delete(content: bytes, inputs: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    begin, end = _span(content, dice)
    return content[:begin] + content[end:]


def _repeat(content: bytes, inputs: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    begin, end = _span(content, dice)
    return content[:end] + content[begin:end] * dice.choice((1, 2, 10, 100, 3000)) + content[end:]


def _splice(content: bytes, inputs: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    """Continue with the end of another input."""
    other = dice.choice(inputs)
    return content[: dice.randint(0, len(content))] + other[dice.randint(0, len(other)) :]


_Change = Callable[[bytes, Sequence[bytes], Sequence[bytes], random.Random], bytes]
_CHANGES: tuple[_Change, ...] = (_insert, _insert, _replace, _replace, _disturb, _delete, _repeat, _splice)
