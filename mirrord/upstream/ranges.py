"""Ranges as an upstream sees them: what we ask for, what it says it sends (RFC 9110, sections 13.1.5, 14)."""

import re
from typing import Self

import attrs

from mirrord.upstream.origin import WebOrigin

_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/(?:([0-9]{1,18})|\*)", re.ASCII)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,512}"', re.ASCII)


@attrs.frozen
class ContentRange:
    """Bytes `first` to before `stop` of `size` in all; both ends None where nothing fits the range (416)."""

    first: int | None
    stop: int | None
    size: int | None

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read a Content-Range; None where it is none."""
        match = _CONTENT_RANGE.fullmatch((text or "").strip().lower())
        if match is None:
            return None
        first, last, size = (None if part is None else int(part) for part in match.groups())
        stop = None if last is None else last + 1
        if first is not None and stop is not None and not first < stop <= (stop if size is None else size):
            return None
        return cls(first, stop, size)


def range_header(offset: int, stop: int | None) -> str | None:
    """What asks for the bytes from `offset` to before `stop`; None where that is everything."""
    if not offset and stop is None:
        return None
    return f"bytes={offset}-{'' if stop is None else stop - 1}"


@attrs.frozen
class Validator:
    """A strong ETag, and the only origin to which it says anything. As text: `https://host "etag"`."""

    origin: str
    etag: str

    @classmethod
    def of(cls, origin: WebOrigin, etag: str | None) -> Self | None:
        """What an answer is validated by; None where it has no strong ETag."""
        return cls(str(origin), etag) if etag is not None and _STRONG_ETAG.fullmatch(etag) else None

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read what `str` wrote; None where there is nothing, or nothing of the kind."""
        origin, _, etag = (text or "").partition(" ")
        return cls(origin, etag) if origin and _STRONG_ETAG.fullmatch(etag) else None

    def __str__(self) -> str:
        return f"{self.origin} {self.etag}"
