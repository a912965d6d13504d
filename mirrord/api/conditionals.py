"""Conditions: what a client holds already (RFC 9110, section 13)."""

from mirrord.http.response import Header
from mirrord.oci.digest import Digest

IMMUTABLE: Header = (b"Cache-Control", b"max-age=31536000, immutable")
"""Content that is asked for by its digest may be kept for ever (RFC 8246)."""


def etag(digest: Digest) -> str:
    """The entity tag of content: its digest, quoted. It is a strong one, the digest is of the bytes."""
    return f'"{digest}"'


def is_held(if_none_match: str | None, digest: Digest) -> bool:
    """Whether If-None-Match names this content: a list, weak, unquoted as old mirrors send it, or `*`."""
    if if_none_match is None:
        return False
    for tag in if_none_match.split(","):
        opaque = tag.strip().removeprefix("W/").strip('"')
        if opaque in {"*", str(digest)}:
            return True
    return False


def is_unchanged(if_range: str | None, digest: Digest) -> bool:
    """Whether a range may be served: no If-Range, or one that is this content's strong entity tag."""
    return if_range is None or if_range.strip() in {etag(digest), str(digest)}
