"""Quotas: how many pulls an upstream has left for us (Docker Hub, "Usage and limits": pulls.md).

The figures are read from every response and never assumed: the limits have changed before, and an
account without a limit gets no headers. A missing figure is unknown, not zero.
"""

import re
from typing import Self

import attrs
from twisted.web.http_headers import Headers

_FIGURE = re.compile(r"\s*([0-9]{1,12})\s*(?:;\s*w=([0-9]{1,9})\s*)?", re.ASCII)


@attrs.frozen(kw_only=True)
class Quota:
    """Pulls per window, pulls left, and the address or account that they are counted for; None if unknown."""

    limit: int | None = None
    remaining: int | None = None
    window_seconds: int | None = None
    source: str | None = None

    @classmethod
    def parse(cls, headers: Headers) -> Self | None:
        """Parse the headers of a response; None if there is no quota in them."""
        limit, window = _figure(headers, b"ratelimit-limit")
        remaining, remaining_window = _figure(headers, b"ratelimit-remaining")
        if limit is None and remaining is None:
            return None
        return cls(
            limit=limit,
            remaining=remaining,
            window_seconds=remaining_window if window is None else window,
            source=_first(headers, b"docker-ratelimit-source")[:64] or None,
        )

    def __str__(self) -> str:
        if self.remaining is None and self.limit is None:
            return "unknown"
        remaining, limit = ("?" if figure is None else str(figure) for figure in (self.remaining, self.limit))
        return f"{remaining} of {limit}"


UNKNOWN = Quota()
"""The quota before a response had one."""


def _first(headers: Headers, name: bytes) -> str:
    return (headers.getRawHeaders(name) or [b""])[0].decode("latin-1")


def _figure(headers: Headers, name: bytes) -> tuple[int | None, int | None]:
    match = _FIGURE.fullmatch(_first(headers, name))
    if match is None:
        return None, None
    count, window = match.groups()
    return int(count), None if window is None else int(window)
