"""Ranges: the parts of a blob that a Range header selects (RFC 9110, section 14).

An invalid header is ignored, as the RFC requires, and the whole blob is sent. One rule is stricter: a range
that ends before it begins cannot be satisfied, where the RFC would ignore it; the distribution conformance
tests expect that (reference/protocol.md, section 1.4).
"""

import re
from collections.abc import Iterator, Sequence

import attrs

MAX_RANGES = 1024
"""The most ranges of one request, which is what podman requests; RFC 9110, section 14.2, allows a limit."""

_SPEC = re.compile(r"(\d+)-(\d*)|-(\d+)", re.ASCII)
_BEYOND_EVERY_BLOB = 10**20


@attrs.frozen
class ByteRange:
    """The bytes from `first` to before `stop`."""

    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first

    def content_range(self, size: int) -> str:
        """Return the value of Content-Range, of a blob of `size` bytes."""
        return f"bytes {self.first}-{self.stop - 1}/{size}"


def select(header: str, size: int) -> tuple[ByteRange, ...] | None:
    """Return the ranges of a blob of `size` bytes that a Range header selects, in its order, not merged.

    None means that the header is to be ignored: it is invalid, or the ranges are too many or overlap too much
    (RFC 9110, section 14.2, lets a server refuse these). An empty tuple means that none can be satisfied,
    which is 416.
    """
    unit, equals, text = header.partition("=")
    if unit.strip().lower() != "bytes" or not equals or text.count(",") >= MAX_RANGES:
        return None
    matches = [_SPEC.fullmatch(spec.strip(" \t")) for spec in text.split(",") if spec.strip(" \t")]
    if not matches or None in matches:
        return None
    ranges = tuple(_satisfiable((match for match in matches if match), size))
    return ranges if sum(map(len, ranges)) <= 2 * size else None


def _satisfiable(specs: Iterator[re.Match[str]], size: int) -> Iterator[ByteRange]:
    for spec in specs:
        first, last, suffix = spec.groups()
        if suffix is not None:
            selected = ByteRange(max(0, size - _number(suffix)), size)
        else:
            stop = _number(last) + 1 if last else size
            selected = ByteRange(_number(first), min(stop, size))
        if selected.first < selected.stop:
            yield selected


def _number(digits: str) -> int:
    """Return the number, or one beyond every blob: Python refuses to convert thousands of digits."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 20 else _BEYOND_EVERY_BLOB


def multipart(
    ranges: Sequence[ByteRange], size: int, content_type: str, boundary: str
) -> list[bytes | ByteRange]:
    """Return the parts of a multipart body: the ranges, and the bytes between them.

    `boundary` is alphanumeric, so that it needs no quotes: podman's parser does not support them
    (reference/protocol.md, section 1.4).
    """
    parts: list[bytes | ByteRange] = []
    for each in ranges:
        opening = f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {each.content_range(size)}"
        parts += [f"{opening}\r\n\r\n".encode("ascii"), each, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode("ascii"))
    return parts
