"""Quotas: how many pulls an upstream says are left (Docker Hub, "Usage and limits": pulls.md).

The figures are read from every answer and never assumed: the limits have changed before, and an
account that has none sends no headers. What is not said is unknown, not nought.
"""

import re
from typing import Self

import attrs
from twisted.web.http_headers import Headers

_FIGURE = re.compile(r"\s*([0-9]{1,12})\s*(?:;\s*w=([0-9]{1,9})\s*)?", re.ASCII)


@attrs.frozen
class Quota:
    """Pulls per window, pulls left, and for whom it is counted: an address or an account.

    None: the upstream does not say.
    """

    limit: int | None = None
    remaining: int | None = None
    window_seconds: int | None = None
    source: str | None = None

    @classmethod
    def parse(cls, headers: Headers) -> Self | None:
        """What an answer says; None if it says nothing."""
        limit, window = _figure(headers, b"ratelimit-limit")
        remaining, other_window = _figure(headers, b"ratelimit-remaining")
        if limit is None and remaining is None:
            return None
        source = _first(headers, b"docker-ratelimit-source")[:64]
        return cls(limit, remaining, other_window if window is None else window, source or None)

    def __str__(self) -> str:
        if self.remaining is None and self.limit is None:
            return "unknown"
        remaining, limit = ("?" if figure is None else str(figure) for figure in (self.remaining, self.limit))
        return f"{remaining} of {limit}"


UNKNOWN = Quota()
"""No answer has said anything."""


def _first(headers: Headers, name: bytes) -> str:
    return (headers.getRawHeaders(name) or [b""])[0].decode("latin-1")


def _figure(headers: Headers, name: bytes) -> tuple[int | None, int | None]:
    match = _FIGURE.fullmatch(_first(headers, name))
    if match is None:
        return None, None
    count, window = match.groups()
    return int(count), None if window is None else int(window)
