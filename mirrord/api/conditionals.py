"""Conditional requests for content whose validator is its digest (RFC 9110, section 13)."""

from mirrord.http.response import Header
from mirrord.oci.digest import Digest

IMMUTABLE: Header = (b"Cache-Control", b"max-age=31536000, immutable")
"""Content that is requested by digest may be cached for ever (RFC 8246)."""


def etag(digest: Digest) -> str:
    """Return the entity tag of content: its digest, quoted. It is strong, as the digest is of the bytes."""
    return f'"{digest}"'


def matches(if_none_match: str | None, digest: Digest) -> bool:
    """Return whether If-None-Match names this content: a list, weak, unquoted as by old mirrors, or `*`."""
    if if_none_match is None:
        return False
    for tag in if_none_match.split(","):
        opaque = tag.strip().removeprefix("W/").strip('"')
        if opaque in {"*", str(digest)}:
            return True
    return False


def allows_range(if_range: str | None, digest: Digest) -> bool:
    """Return whether a range may be served: no If-Range, or one with this content's strong entity tag."""
    return if_range is None or if_range.strip() in {etag(digest), str(digest)}
