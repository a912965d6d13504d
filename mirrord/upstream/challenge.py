"""Challenges: the WWW-Authenticate headers of a 401 (RFC 9110, section 11).

    WWW-Authenticate: Bearer realm="https://auth.example/t",scope="repository:a:pull,push", Basic realm="x"

A comma separates challenges, the parameters of one challenge, and words inside a quoted scope. The
difference is in what follows a token: `=` makes it a parameter's name, anything else makes it the
scheme of the next challenge. So the text is split into lexemes once and parsed with a look-ahead of
one; a regular expression for the whole could be made to backtrack by hostile input.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Self

import attrs

_LEXEME = re.compile(
    r"""
      (?P<comma>,)
    | (?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*
      (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<bare>[!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[ \t]*(?:,|$)) )
    | (?P<word>[A-Za-z0-9!#$%&'*+.^_`|~/-]+=*)
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_SPACE = re.compile(r"[ \t]*")
_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_PAIR = re.compile(r"\\(.)", re.DOTALL)

_MAX_LENGTH = 16 * 1024
"""The most characters of all challenges of one response; longer ones are ignored."""


@attrs.frozen
class Challenge:
    """One challenge, its scheme and the names of its parameters in lowercase.

    Some schemes have a `token68` in place of parameters.
    """

    scheme: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    token68: str | None = None

    @classmethod
    def parse_all(cls, lines: Iterable[str]) -> list[Self]:
        """Parse the challenges of one or several header lines, in order, up to the first syntax error."""
        text = ",".join(lines)
        return [cls(*parts) for parts in _Parser(text).parse()] if len(text) <= _MAX_LENGTH else []


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Choose the challenge to satisfy: Bearer before Basic; None if there is neither."""
    by_scheme = {challenge.scheme: challenge for challenge in reversed(list(challenges))}
    return by_scheme.get("bearer") or by_scheme.get("basic")


_Parts = tuple[str, dict[str, str], str | None]


@attrs.define
class _Parser:
    """A parser that reads challenges from left to right."""

    _text: str
    _position: int = 0

    def parse(self) -> list[_Parts]:
        """Return schemes with their parameters or their token, up to the first syntax error."""
        found: list[_Parts] = []
        begins = True
        while (lexeme := self._next()) is not None:
            if lexeme["comma"]:
                begins = True
            elif lexeme["name"] is not None:
                if not found or found[-1][2] is not None or not begins:
                    return found
                found[-1][1].setdefault(lexeme["name"].lower(), _value(lexeme))
                begins = False
            elif begins and _SCHEME.fullmatch(lexeme["word"]):
                found.append((lexeme["word"].lower(), {}, self._token68()))
                begins = found[-1][2] is None
            else:
                return found
        return found

    def _next(self) -> re.Match[str] | None:
        lexeme = self._peek()
        if lexeme is not None:
            self._position = lexeme.end()
        return lexeme

    def _peek(self) -> re.Match[str] | None:
        gap = _SPACE.match(self._text, self._position)
        return _LEXEME.match(self._text, gap.end() if gap else self._position)

    def _token68(self) -> str | None:
        """Return the token68 in place of a scheme's parameters; None if there is none."""
        ahead = self._peek()
        if ahead is None or ahead["word"] is None or self._text[self._position] not in " \t":
            return None
        self._position = ahead.end()
        return ahead["word"]


def _value(lexeme: re.Match[str]) -> str:
    quoted = lexeme["quoted"]
    return lexeme["bare"] if quoted is None else _PAIR.sub(r"\1", quoted)
