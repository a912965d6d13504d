"""The tables of the index, and their rows as SQLite takes and gives them.

The index is the truth for links, tags and media types; for content it is a list that can be made
again from the files (recovery.py). An index of a later version, or one that cannot be read, is set
aside and begun anew: what it knew is earned again from the upstreams, and what it knew of hosted
repositories comes from the last copy (copies.py).

Rows are tuples because they go to SQLite and come from it thousands at a time; the first `key`
columns of a table are its key.
"""

import sqlite3
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import attrs

from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.store.layout import FILE_MODE
from mirrord.store.versions import upgrade

PAGE_ROWS = 256
"""How many rows one look at a table reads at most: a third of a millisecond on the reactor."""


class ContentRow(NamedTuple):
    """A committed blob or a stored manifest; `last_used` is service time.

    `is_hosted` keeps it from going unless a sweep of hosted content says so. What says that a hosted
    repository holds it is its link alone; this is written down so that pages need not look for links.
    """

    digest: str
    kind: str
    size: int
    media_type: str
    last_used: float
    is_hosted: bool = False


class LinkRow(NamedTuple):
    """That a repository of an upstream may read a digest, and as what.

    `is_manifest` says that the manifest itself was stored through this link, not only named by another.
    """

    upstream: str
    repository: str
    digest: str
    media_type: str
    size: int
    is_manifest: bool
    last_used: float

    @classmethod
    def of(
        cls, key: tuple[str, ...], descriptor: Descriptor, last_used: float, *, is_manifest: bool = False
    ) -> "LinkRow":
        """The row that lets `(upstream, repository, digest)` read what is described."""
        upstream, repository, digest = key
        return cls(
            upstream, repository, digest, descriptor.media_type, descriptor.size, is_manifest, last_used
        )


class TagRow(NamedTuple):
    """What is known of a tag."""

    upstream: str
    repository: str
    tag: str
    held_digest: str | None
    held_type: str | None
    held_size: int | None
    held_seen_at: float | None
    pending_digest: str | None
    pending_type: str | None
    pending_size: int | None
    pending_seen_at: float | None
    last_used: float

    @classmethod
    def of(cls, key: tuple[str, ...], record: TagRecord, last_used: float) -> "TagRow":
        """The row of a record, under `(upstream, repository, tag)`."""
        upstream, repository, tag = key
        return cls(upstream, repository, tag, *_columns(record.cached), *_columns(record.pending), last_used)

    def record(self) -> TagRecord:
        """The record of this row."""
        held = _sighting(self.held_digest, self.held_type, self.held_size, self.held_seen_at)
        pending = _sighting(self.pending_digest, self.pending_type, self.pending_size, self.pending_seen_at)
        return TagRecord(held, pending)


Row: TypeAlias = ContentRow | LinkRow | TagRow
Key: TypeAlias = tuple[str, ...]
R = TypeVar("R", ContentRow, LinkRow, TagRow)


@attrs.frozen(eq=False)
class Table(Generic[R]):
    """A table: its name, its rows, how many columns are the key, how many of those a use names.

    A use of content names its digest alone: a link that is used does not know the kind. The SQL is
    made of the names below, never of anything that was asked for.
    """

    name: str
    row: type[R]
    key_columns: int
    used_columns: int

    def key_of(self, row: R) -> Key:
        """The key of a row."""
        return tuple(map(str, row[: self.key_columns]))

    @cached_property
    def upsert(self) -> str:
        """Writes a whole row."""
        return f"INSERT OR REPLACE INTO {self.name} VALUES ({', '.join('?' * len(self.row._fields))})"  # noqa: S608

    @cached_property
    def delete(self) -> str:
        """Deletes the row of a key."""
        return f"DELETE FROM {self.name} WHERE {self._has(self.key_columns)}"  # noqa: S608

    @cached_property
    def select(self) -> str:
        """Reads the row of a key."""
        return f"SELECT * FROM {self.name} WHERE {self._has(self.key_columns)}"  # noqa: S608

    @cached_property
    def nothing(self) -> str:
        """Reads no row, but fails where the table or a column of it is missing."""
        return f"SELECT {', '.join(self.row._fields)} FROM {self.name} LIMIT 0"  # noqa: S608

    @cached_property
    def touch(self) -> str:
        """Moves the last use of a key forward."""
        return f"UPDATE {self.name} SET last_used = max(last_used, ?) WHERE {self._has(self.used_columns)}"  # noqa: S608

    def _has(self, columns: int) -> str:
        return " AND ".join(f"{column} = ?" for column in self.row._fields[:columns])


CONTENT = Table("content", ContentRow, key_columns=2, used_columns=1)
LINKS = Table("links", LinkRow, key_columns=3, used_columns=3)
TAGS = Table("tags", TagRow, key_columns=3, used_columns=3)


def connect(path: Path) -> sqlite3.Connection:
    """Open the index; used by one thread at a time, each connection by its own owner.

    Raises:
        sqlite3.Error: It cannot be opened, or is no index of ours.
    """
    if not path.exists():
        path.touch(FILE_MODE)
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -1024")
        connection.execute("PRAGMA wal_autocheckpoint = 256")
        connection.execute("PRAGMA journal_size_limit = 1048576")
        upgrade(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _columns(sighting: TagObservation | None) -> tuple[str | None, str | None, int | None, float | None]:
    if sighting is None:
        return None, None, None, None
    descriptor = sighting.descriptor
    return str(descriptor.digest), descriptor.media_type, descriptor.size, sighting.seen_at


def _sighting(
    digest: str | None, media_type: str | None, size: int | None, seen_at: float | None
) -> TagObservation | None:
    if digest is None or media_type is None or size is None or seen_at is None:
        return None
    return TagObservation(Descriptor(media_type, Digest.parse(digest), size), seen_at)
