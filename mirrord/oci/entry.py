"""Entries: what a store holds on the disk, as the collector sees it."""

from enum import StrEnum

import attrs


class ContentKind(StrEnum):
    """What an entry is: committed content, or what an unfinished download left."""

    BLOB = "blob"
    MANIFEST = "manifest"
    LEFTOVER = "leftover"


@attrs.frozen
class Entry:
    """One file of a store.

    `name` is unique among its kind: a digest, or a leftover's file name. `size` is what it takes of
    the disk, in bytes; `idle_seconds` is how long nobody has asked for it.
    """

    kind: ContentKind
    name: str
    size: int
    idle_seconds: float
