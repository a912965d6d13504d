"""Run a target with mutated inputs; grow its corpus by those that reach new code.

An input that executes a line of mirrord after another line, a pair that no input before has, is worth
keeping: mutations of it reach further than those of the inputs before. Tracing that is slow, so the corpus
grows on request only, and is committed; all other runs only mutate it.
"""

import hashlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

import mirrord
from tests.fuzz.mutation import CORPUS, mutate, read_inputs, read_tokens
from tests.fuzz.targets import Target

MAX_SECONDS = 2.0
"""The CPU time of one case; a parser that backtracks needs more."""

MAX_CORPUS = 150
"""The most inputs of one target."""

_PACKAGE = str(Path(mirrord.__file__).parent)

Pair = tuple[str, int, int]
"""A line of a file, executed after another."""


@attrs.frozen
class Failure:
    """An input with which a target raised what it must not, or took too long."""

    target: str
    content: bytes
    error: str

    def keep(self) -> Path:
        """Add the input to the corpus, so that every later run includes it."""
        return _write(CORPUS / self.target, self.content)


def replay(name: str, target: Target) -> Iterator[Failure]:
    """Run a target with its corpus, unchanged."""
    for content in read_inputs(CORPUS / name):
        yield from _run(name, target, content)


def fuzz(name: str, target: Target, cases: int, seed: int) -> Iterator[Failure]:
    """Run a target with mutations of its corpus."""
    inputs, tokens = read_inputs(CORPUS / name), read_tokens(CORPUS / name)
    for number in range(cases):
        yield from _run(name, target, mutate(inputs, tokens, random.Random(f"{seed} {number}")))


def grow(name: str, target: Target, cases: int, seed: int) -> int:
    """Add inputs to the corpus that reach new code; return how many."""
    folder = CORPUS / name
    inputs, tokens = read_inputs(folder), read_tokens(folder)
    reached = {pair for content in inputs for pair in _trace(target, content)}
    added = 0
    for number in range(cases):
        if len(inputs) == MAX_CORPUS:
            break
        content = mutate(inputs, tokens, random.Random(f"{seed} {number}"))
        pairs = _trace(target, content)
        if not pairs <= reached and len(content) <= 2048:
            reached |= pairs
            inputs.append(content)
            _write(folder, content)
            added += 1
    return added


def _run(name: str, target: Target, content: bytes) -> Iterator[Failure]:
    began_at = time.thread_time()
    try:
        target(content)
    except Exception as error:  # noqa: BLE001 - a failure is any exception that the target does not expect
        yield Failure(name, content, repr(error))
    if time.thread_time() - began_at > MAX_SECONDS:
        yield Failure(name, content, f"more than {MAX_SECONDS} s of CPU time")


def _trace(target: Callable[[bytes], None], content: bytes) -> set[Pair]:
    """Return the pairs of lines that a case executes."""
    pairs: set[Pair] = set()

    def trace_call(frame: FrameType, event: str, argument: Any) -> Any:
        file, last = frame.f_code.co_filename, 0

        def trace_line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            pairs.add((file, last, frame.f_lineno))
            last = frame.f_lineno
            return trace_line

        return trace_line if file.startswith(_PACKAGE) else None

    sys.settrace(trace_call)
    try:
        target(content)
    except Exception:  # noqa: BLE001 - only the way is of interest; `fuzz` reports failures
        return pairs
    finally:
        sys.settrace(None)
    return pairs


def _write(folder: Path, content: bytes) -> Path:
    path = folder / hashlib.sha256(content).hexdigest()[:16]
    path.write_bytes(content)
    return path
