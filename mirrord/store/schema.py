"""The schema of the index: its tables, its versions, and the row types of mirrored content.

The index is authoritative for links, tags and media types; its list of content can be rebuilt from the
files (reconciliation.py). One that cannot be read is set aside and rebuilt (recovery.py): mirrored links are
then verified again with the upstreams, hosted repositories come from snapshot and journal. An index of a
later version is refused. The rows of hosted repositories are in hosted_rows.py.

Each upgrade step runs once, in one transaction with the version number that records it: a kill leaves
the old version or the new one. The mirror's tables could be rebuilt from the upstreams, those of hosted
repositories could not, so no step ever drops a row of theirs.

Rows are tuples because they pass to and from SQLite by the thousand; the first `key_columns` columns of
a table are its key.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import attrs

from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.store.layout import BLOCK_BYTES, FILE_MODE

VERSION = 5

SERVICE_SECONDS = "service_seconds"
HOSTED_SEQUENCE = "hosted_sequence"
SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
"""Sets a value of the table `meta`: the service time, or the sequence of the last change in the journal."""

PAGE_ROWS = 256
"""The most rows that one query reads: a third of a millisecond on the reactor."""

_MIRRORED = """
CREATE TABLE IF NOT EXISTS content (
    digest TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, media_type TEXT NOT NULL,
    last_used REAL NOT NULL, PRIMARY KEY (digest, kind)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS content_by_use ON content (last_used, digest, kind, size);
CREATE TABLE IF NOT EXISTS links (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, is_manifest INTEGER NOT NULL, last_used REAL NOT NULL,
    PRIMARY KEY (upstream, repository, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_to_manifests ON links (upstream, repository, digest) WHERE is_manifest = 1;
CREATE TABLE IF NOT EXISTS tags (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL,
    held_digest TEXT, held_type TEXT, held_size INTEGER, held_seen_at REAL,
    pending_digest TEXT, pending_type TEXT, pending_size INTEGER, pending_seen_at REAL,
    last_used REAL NOT NULL, PRIMARY KEY (upstream, repository, tag)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_by_pending ON tags (upstream, repository, pending_digest)
    WHERE pending_digest IS NOT NULL;
CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""

HOSTED_TABLES = """
CREATE TABLE hosted_links (
    repository TEXT NOT NULL, digest TEXT NOT NULL, is_manifest INTEGER NOT NULL, media_type TEXT NOT NULL,
    size INTEGER NOT NULL, linked_at REAL NOT NULL, touched REAL NOT NULL, subject TEXT,
    artifact_type TEXT, annotations TEXT, PRIMARY KEY (repository, digest, is_manifest)) WITHOUT ROWID;
CREATE TABLE hosted_tags (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, tagged_at REAL NOT NULL,
    touched REAL NOT NULL, PRIMARY KEY (repository, tag)) WITHOUT ROWID;
CREATE TABLE hosted_edges (
    repository TEXT NOT NULL, child TEXT NOT NULL, parent TEXT NOT NULL,
    PRIMARY KEY (repository, child, parent)) WITHOUT ROWID;
"""
"""Ages are computed from `touched`, in service time (ADR 0002); the wall clock times beside it are shown."""

_HOSTED = f"""
ALTER TABLE content ADD COLUMN is_hosted INTEGER NOT NULL DEFAULT 0;
DROP INDEX content_by_use;
CREATE INDEX content_by_use ON content (last_used, digest, kind, size) WHERE is_hosted = 0;
CREATE INDEX content_hosted ON content (digest, kind, size) WHERE is_hosted = 1;
{HOSTED_TABLES}
CREATE INDEX hosted_links_by_digest ON hosted_links (digest, is_manifest, repository);
CREATE INDEX hosted_links_by_subject ON hosted_links (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX hosted_tags_by_digest ON hosted_tags (repository, digest);
CREATE INDEX hosted_edges_by_parent ON hosted_edges (repository, parent);
"""

_BLOCKS = f"(size + {BLOCK_BYTES - 1}) / {BLOCK_BYTES}"
_COUNT = (
    "UPDATE content_totals SET entries = entries {0} 1, "  # noqa: S608
    f"blocks = blocks {{0}} ({{1}}.{_BLOCKS[1:]} WHERE is_hosted = {{1}}.is_hosted;"
)
_TOTALS = f"""
CREATE TABLE content_totals (
    is_hosted INTEGER NOT NULL PRIMARY KEY, entries INTEGER NOT NULL, blocks INTEGER NOT NULL);
INSERT INTO content_totals VALUES (0, 0, 0), (1, 0, 0);
INSERT OR REPLACE INTO content_totals
    SELECT is_hosted, count(*), sum({_BLOCKS}) FROM content GROUP BY is_hosted;
CREATE TRIGGER content_inserted AFTER INSERT ON content BEGIN {_COUNT.format("+", "new")} END;
CREATE TRIGGER content_deleted AFTER DELETE ON content BEGIN {_COUNT.format("-", "old")} END;
CREATE TRIGGER content_updated AFTER UPDATE OF size, is_hosted ON content
    BEGIN {_COUNT.format("-", "old")} {_COUNT.format("+", "new")} END;
"""  # noqa: S608
"""Counts content where it is written: adding up a million rows takes seconds, at every start.

REPLACE would not fire the trigger of the row that it deletes, so no statement uses it on this table.
"""

_JOURNALED = f"INSERT OR IGNORE INTO meta VALUES ('{HOSTED_SEQUENCE}', 0);"  # noqa: S608
"""An index without this row was emptied, or is of another program: it is not a new one."""

_ANSWERED = """
DELETE FROM links WHERE is_manifest = 0 AND digest NOT IN (
    SELECT digest FROM (SELECT digest FROM links GROUP BY digest HAVING count(*) = 1)
    JOIN content USING (digest) WHERE kind = 'blob' AND digest NOT IN (SELECT digest FROM hosted_links));
"""
"""Deletes links that no upstream may have answered for: older versions linked what manifests referenced.

Manifests that were stored through their link stay linked, and so do blobs that no other repository has;
upstreams confirm the rest when it is requested. A million links take 3 to 4 s.
"""

_STEPS = (_MIRRORED, _HOSTED, _TOTALS, _JOURNALED, _ANSWERED)


class LaterVersion(OSError):
    """The index was written by a later version of mirrord; the message is one line for the operator."""


def upgrade(connection: sqlite3.Connection, *, is_new: bool = False) -> None:
    """Upgrade an index to this version; only one that `is_new` may be empty.

    Raises:
        LaterVersion: It is of a later version.
        sqlite3.DatabaseError: It is empty, or lacks a table or column of its version.
        sqlite3.OperationalError: The disk failed; the index is unchanged.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise LaterVersion(
            f"the index is of version {version}, and this mirrord knows version {VERSION}: "
            "install the version that wrote it, or a later one"
        )
    if version < 0 or (version == 0 and not is_new):
        raise sqlite3.DatabaseError("it is empty")
    if version == VERSION:
        return
    steps = "".join(_STEPS[version:])
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def connect(path: Path) -> sqlite3.Connection:
    """Open the index. A connection has one owner, and is used by one thread at a time.

    Raises:
        LaterVersion: A later version wrote it.
        sqlite3.Error: The file cannot be opened, or is not an index of ours.
    """
    is_new = not path.exists()
    if is_new:
        path.touch(FILE_MODE)
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -1024")
        connection.execute("PRAGMA wal_autocheckpoint = 256")
        connection.execute("PRAGMA journal_size_limit = 1048576")
        upgrade(connection, is_new=is_new)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the body in one transaction, which an exception undoes."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


class ContentRow(NamedTuple):
    """A committed blob or a stored manifest; `last_used` is service time.

    `is_hosted` exempts it from eviction: only a sweep of hosted content removes it. Whether a hosted
    repository has it is decided by its link alone; the column exists so that pages need no join.
    """

    digest: str
    kind: str
    size: int
    media_type: str
    last_used: float
    is_hosted: bool = False


class LinkRow(NamedTuple):
    """Permission for a mirrored repository to read a digest, with the media type it has there.

    `is_manifest` means that a manifest was stored through this link.
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
        """Return the row that lets `(upstream, repository, digest)` read what is described."""
        upstream, repository, digest = key
        return cls(
            upstream=upstream,
            repository=repository,
            digest=digest,
            media_type=descriptor.media_type,
            size=descriptor.size,
            is_manifest=is_manifest,
            last_used=last_used,
        )


class TagRow(NamedTuple):
    """A tag of a mirrored repository; the columns `held_*` describe its cached manifest."""

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
        """Return the row of a record, under `(upstream, repository, tag)`."""
        upstream, repository, tag = key
        return cls(upstream, repository, tag, *_columns(record.cached), *_columns(record.pending), last_used)

    def record(self) -> TagRecord:
        """Return the record of this row."""
        cached = _observation(self.held_digest, self.held_type, self.held_size, self.held_seen_at)
        pending = _observation(
            self.pending_digest, self.pending_type, self.pending_size, self.pending_seen_at
        )
        return TagRecord(cached, pending)


Row: TypeAlias = ContentRow | LinkRow | TagRow
Key: TypeAlias = tuple[str, ...]
R = TypeVar("R", ContentRow, LinkRow, TagRow)


@attrs.frozen(eq=False, kw_only=True)
class Table(Generic[R]):
    """A table: its name, its row type, how many columns are its key, and how many identify a use.

    A use of content names the digest alone: the link that was used does not know the kind. The SQL is
    made of these names, never of request data.
    """

    name: str
    row: type[R]
    key_columns: int
    used_columns: int

    def key_of(self, row: R) -> Key:
        """Return the key of a row."""
        return tuple(map(str, row[: self.key_columns]))

    @cached_property
    def upsert(self) -> str:
        """SQL that writes a whole row."""
        fields = self.row._fields
        key, rest = fields[: self.key_columns], fields[self.key_columns :]
        return (
            f"INSERT INTO {self.name} VALUES ({', '.join('?' * len(fields))}) "  # noqa: S608
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in rest)
        )

    @cached_property
    def delete(self) -> str:
        """SQL that deletes the row of a key."""
        return f"DELETE FROM {self.name} WHERE {self._where(self.key_columns)}"  # noqa: S608

    @cached_property
    def select(self) -> str:
        """SQL that reads the row of a key."""
        return f"SELECT * FROM {self.name} WHERE {self._where(self.key_columns)}"  # noqa: S608

    @cached_property
    def check(self) -> str:
        """SQL that reads no row, but fails if the table or one of its columns is missing."""
        return f"SELECT {', '.join(self.row._fields)} FROM {self.name} LIMIT 0"  # noqa: S608

    @cached_property
    def touch(self) -> str:
        """SQL that moves the last use of a key forward."""
        return f"UPDATE {self.name} SET last_used = max(last_used, ?) WHERE {self._where(self.used_columns)}"  # noqa: S608

    def _where(self, columns: int) -> str:
        return " AND ".join(f"{column} = ?" for column in self.row._fields[:columns])


CONTENT = Table(name="content", row=ContentRow, key_columns=2, used_columns=1)
LINKS = Table(name="links", row=LinkRow, key_columns=3, used_columns=3)
TAGS = Table(name="tags", row=TagRow, key_columns=3, used_columns=3)


def _columns(observation: TagObservation | None) -> tuple[str | None, str | None, int | None, float | None]:
    if observation is None:
        return None, None, None, None
    descriptor = observation.descriptor
    return str(descriptor.digest), descriptor.media_type, descriptor.size, observation.observed_at


def _observation(
    digest: str | None, media_type: str | None, size: int | None, seen_at: float | None
) -> TagObservation | None:
    if digest is None or media_type is None or size is None or seen_at is None:
        return None
    return TagObservation(Descriptor(media_type, Digest.parse(digest), size), seen_at)
