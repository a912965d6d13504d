"""Recovery: open whatever an earlier run left, as a store that can be used at once.

There are three records of hosted repositories: the index, the journal (journal.py) and the snapshots
(snapshots.py). Each has the sequence number of the last change that it contains, and a change was promised to
its client when it was in the journal. So at every start:

- The index is as far as the journal: nothing to do.
- It is behind, after a power cut or because an older copy of the file was restored: the transactions of the
  journal are replayed; if it does not go back so far, a snapshot replaces the hosted tables first.
- It is missing, empty, damaged, or was found damaged by an earlier run: a new one is built beside it, from
  the newest whole snapshot and the journal. Once that is on the disk, it replaces the old one, which is set
  aside. After a kill at any moment the next start does the same from the same files.
- It is ahead: journal and snapshots are lost, or older copies of them were restored. What it contains becomes
  the next snapshot. If nothing of the content is there either, the folder is not mounted, or not the right
  one: no start.

Only if snapshots and journal together do not reach from the beginning to the end are the tables of a damaged
index read, as far as that is possible, from both ends. An index that was emptied is not a new one: that
contains a row which is written together with the tables. An index of a later version is left alone.

The links of mirrored repositories are verified again with the upstreams after the loss of an index. Its list
of content is completed from the files while the daemon serves clients (reconciliation.py).
"""

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import attrs
from twisted.logger import Logger

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.store import disk, hosted_facts
from mirrord.store.contents import TOTALS
from mirrord.store.database import primary_code
from mirrord.store.disk import StoreLock
from mirrord.store.history import DamagedJournal, History
from mirrord.store.hosted_facts import Fact, ManifestLinked, Tagged
from mirrord.store.hosted_rows import CHECKS as HOSTED_CHECKS
from mirrord.store.hosted_rows import COLUMNS, ManifestDetails, apply
from mirrord.store.journal import HostedJournal, JournalRecord, numbered
from mirrord.store.layout import FOLDER_MODE, Layout
from mirrord.store.manifests import read_manifest
from mirrord.store.schema import (
    CONTENT,
    HOSTED_SEQUENCE,
    LINKS,
    SERVICE_SECONDS,
    SET_META,
    TAGS,
    LaterVersion,
    connect,
    transaction,
)
from mirrord.store.snapshots import facts_queries, prune, snapshot_path, take_snapshot, write_snapshot

_log = Logger()

_SOME_HOSTED = "SELECT digest, is_manifest FROM hosted_links LIMIT 100"
_LOGS = ("-wal", "-journal")
"""SQLite applies these files to the index. A kill during the switch to a WAL leaves the second one."""

_CHECKS = (TOTALS, CONTENT.check, LINKS.check, TAGS.check, *HOSTED_CHECKS)


@attrs.frozen
class OpenIndex:
    """Two connections to the index, the journal, and the service time at which the last run left them.

    `damaged` are the journal files that were set aside, with what is lost.
    """

    reader: sqlite3.Connection
    writer: sqlite3.Connection
    journal: HostedJournal
    service_seconds: float
    damaged: tuple[DamagedJournal, ...] = ()

    def close(self) -> None:
        """Close the connections and the journal."""
        for each in (self.reader, self.writer, self.journal):
            each.close()


_Continued: TypeAlias = tuple[HostedJournal, tuple[DamagedJournal, ...]]
"""The journal to write on, and the files of it that were set aside."""


class HostedContentMissing(OSError):
    """The folder of hosted repositories has nothing of theirs; the message is one line for the operator."""


class UnusableIndex(Exception):
    """The index has to be rebuilt; the message says why. Not raised outside this module."""


def open_index(layout: Layout, *, accepts_damage: bool = False) -> OpenIndex:
    """Open the index and the journal, and make them agree.

    If it `accepts_damage`, transactions that a damaged journal lacks are left out.

    Raises:
        JournalDamaged: The journal lacks transactions that were promised.
        OSError: The disk failed, or the index is of a later version.
    """
    history = History.read(layout.hosted_root, accepts_damage=accepts_damage)
    try:
        try:
            writer = _open_usable(layout)
            try:
                journal, damaged = _continue(layout, history, writer)
            except UnusableIndex:
                writer.close()
                raise
        except UnusableIndex as error:
            journal, damaged = _rebuild(layout, history, str(error))
            writer = connect(layout.index)
        layout.copy.unlink(missing_ok=True)
        service_seconds = _read_meta(writer, SERVICE_SECONDS) or 0.0
        return OpenIndex(connect(layout.index), writer, journal, service_seconds, damaged)
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"{layout.index} cannot be opened: {error}") from error
    except ValueError as error:
        raise LaterVersion(
            f"the journal in {layout.hosted_root} was written by a later version: {error}"
        ) from error


def require_hosted_content(layout: Layout) -> None:
    """Refuse a folder of hosted repositories without a journal and without content that the index lists.

    Its file system is not mounted, or `path` in `[hosted]` names another folder. What is pushed to it would
    not be where the rest is, and be out of reach when that is back.

    Raises:
        HostedContentMissing: It is such a folder.
    """
    if any(numbered(layout.hosted_root, word) for word in ("journal", "snapshot")):
        return
    rows: list[tuple[str, int]] = []
    if layout.index.exists():
        with contextlib.suppress(sqlite3.Error), closing(_open_read_only(layout.index)) as connection:
            rows = connection.execute(_SOME_HOSTED).fetchall()
    paths = (
        path
        for digest, is_manifest in rows
        for path in layout.candidates(
            ContentKind.MANIFEST if is_manifest else ContentKind.BLOB, Digest.parse(digest), is_hosted=True
        )
    )
    if rows and not any(path.exists() for path in paths):
        raise HostedContentMissing(
            f"{layout.hosted_root} has no content of hosted repositories, but the index lists some: mount "
            "its file system, or correct path in [hosted]; if the content is lost, restore a backup, or move "
            f"{layout.index} away"
        )


def repair(layout: Layout) -> tuple[DamagedJournal, ...]:
    """Leave out what cannot be read of a damaged journal, so that the store can be opened again.

    Return the damaged files; without any, nothing is changed.

    Raises:
        StoreInUse: A daemon uses the store.
        OSError: The disk failed, or the index is of a later version; the damaged files are where they were.
    """
    for folder in (layout.root, layout.hosted_root):
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    lock = StoreLock.acquire(layout)
    try:
        if not History.read(layout.hosted_root, accepts_damage=True).damaged:
            return ()
        with closing(open_index(layout, accepts_damage=True)) as opened:
            return opened.damaged
    finally:
        lock.release()


def _open_usable(layout: Layout) -> sqlite3.Connection:
    """Open the index.

    Raises:
        UnusableIndex: It has to be rebuilt.
        OSError, sqlite3.OperationalError: The disk failed, or the index is of a later version.
    """
    if layout.condemned.exists():
        raise UnusableIndex("an earlier run found it damaged")
    if not layout.index.exists():
        raise UnusableIndex("it is missing")
    was_closed = not _beside(layout.index, "-wal").exists()
    if was_closed and _is_truncated(layout.index):
        raise UnusableIndex("it ends too early")
    try:
        connection = connect(layout.index)
        try:
            _check(connection, is_thorough=not was_closed)
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        is_incomplete = primary_code(error) == sqlite3.SQLITE_ERROR
        if isinstance(error, sqlite3.OperationalError) and not is_incomplete:
            raise
        raise UnusableIndex(str(error)) from error
    return connection


def _is_truncated(index: Path) -> bool:
    """Return whether a file is shorter than its header says (SQLite file format, section 1.3)."""
    with index.open("rb") as file:
        header = file.read(100)
    if len(header) < 100:
        return True
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return index.stat().st_size < pages * (65536 if page_size == 1 else page_size)


def _check(connection: sqlite3.Connection, *, is_thorough: bool) -> None:
    """Check that an index has all that it needs, and thoroughly its hosted tables page by page.

    After a clean end nothing can have come between the file and its log. After a kill somebody may have put
    back an older copy of the file, which SQLite would combine with the log of the newer one.
    """
    for sql in _CHECKS:
        connection.execute(sql).fetchall()
    if _read_meta(connection, HOSTED_SEQUENCE) is None:
        raise UnusableIndex("it was emptied")
    for table in COLUMNS if is_thorough else ():
        ((result, *_), *_) = connection.execute(f"PRAGMA integrity_check({table})")
        if result != "ok":
            raise UnusableIndex(str(result))


def _continue(layout: Layout, history: History, connection: sqlite3.Connection) -> _Continued:
    """Make a usable index and the journal agree, and return the journal.

    Raises:
        UnusableIndex: The index is behind, and snapshots and journal do not contain what it lacks.
        OSError, sqlite3.Error: The disk failed.
    """
    sequence = int(_read_meta(connection, HOSTED_SEQUENCE) or 0)
    recorded = sequence
    if sequence < history.sequence:
        recorded = _catch_up(layout, history, connection, sequence)
    elif sequence > history.sequence:
        _log.error(
            "the journal of hosted repositories ends {count} changes before the index; a new one is started",
            count=sequence - history.sequence,
        )
    at = _read_meta(connection, SERVICE_SECONDS) or 0.0
    if sequence <= history.sequence and history.has_snapshot and not history.damaged:
        return history.resume(at), ()
    # The snapshot first: a journal that begins after changes which nothing records would hide the gap.
    write_snapshot(layout.index, snapshot_path(layout.hosted_root, history.next_number))
    journal = history.begin(max(sequence, history.sequence), at)
    return journal, history.set_damaged_aside(recorded)


def _catch_up(layout: Layout, history: History, connection: sqlite3.Connection, sequence: int) -> int:
    """Bring an index that is behind up to date, in one transaction.

    Return the sequence of the change after which the journal was read.
    """
    recorded, records, snapshot = sequence, history.after(sequence), None
    if records is None and (newest := history.snapshot()) is not None and newest.sequence > sequence:
        snapshot, recorded = newest, newest.sequence
        records = history.after(recorded)
    if records is None and history.damaged:
        records = history.readable_after(recorded)
    if records is None:
        raise UnusableIndex("it is behind the journal, which does not go back so far")
    with transaction(connection):
        for table in COLUMNS if snapshot is not None else ():
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
        for facts in () if snapshot is None else snapshot.facts():
            _apply(layout, connection, facts)
        _replay(layout, connection, records)
        at = [_read_meta(connection, SERVICE_SECONDS) or 0.0, *(record.at for record in records)]
        _set_meta(connection, history.sequence, max(at if snapshot is None else [*at, snapshot.at]))
    if records or snapshot is not None:
        _log.warn(
            "the index was behind the journal; changes of hosted repositories replayed: {count}",
            count=history.sequence - sequence,
        )
    return recorded


def _rebuild(layout: Layout, history: History, reason: str) -> _Continued:
    """Build a new index and replace the old one with it; return the journal.

    Raises:
        OSError, sqlite3.Error: The disk failed; the old index is unchanged.
    """
    new = _beside(layout.index, ".new")
    disk.unlink_all([new, *(_beside(new, suffix) for suffix in (*_LOGS, "-shm"))])
    with closing(connect(new)) as connection:
        sequence, at, recorded = _fill(layout, history, connection)
        (count,) = connection.execute("SELECT count(*) FROM hosted_links").fetchone()
    write_snapshot(new, snapshot_path(layout.hosted_root, history.next_number))
    journal = history.begin(sequence, at)
    aside = _set_aside(layout)
    new.rename(layout.index)
    disk.sync_folder(layout.root)
    layout.condemned.unlink(missing_ok=True)
    damaged = history.set_damaged_aside(recorded)
    prune(layout.hosted_root)
    if aside is not None or sequence or count:
        _log.error(
            "the index was rebuilt because {reason}; blobs and manifests of hosted repositories: {count}; "
            "links of mirrored ones will be re-verified with the upstream; set aside: {aside}",
            reason=reason,
            count=count,
            aside="nothing" if aside is None else aside.name,
        )
    return journal, damaged


def _fill(layout: Layout, history: History, connection: sqlite3.Connection) -> tuple[int, float, int]:
    """Fill the hosted tables of a new index.

    Return the sequence and the service time of its last change, and the sequence of the last change in the
    snapshot that was used.
    """
    snapshot = history.snapshot()
    recorded = sequence = 0 if snapshot is None else snapshot.sequence
    records, at = history.after(recorded), 0.0 if snapshot is None else snapshot.at
    with transaction(connection):
        for facts in () if snapshot is None else snapshot.facts():
            _apply(layout, connection, facts)
        if records is None or snapshot is None:  # without one, a first start may have been killed
            found = [_Salvage.read(source) for source in (layout.copy, layout.index)]
            last = max(each.sequence for each in found)
            # The sequence of a damaged index may be readable where its tables are not.
            earlier = (each for each in history.readable_after(recorded) if each.sequence <= last)
            _replay(layout, connection, earlier)
            for each in found:
                _apply(layout, connection, each.facts)
                at = max(at, each.at)
            sequence = max(sequence, last)
            records = history.readable_after(sequence)
        _replay(layout, connection, records)
        sequence = max(sequence, history.sequence)
        at = max([at, *(record.at for record in records)])
        _set_meta(connection, sequence, at)
    return sequence, at, recorded


@attrs.frozen
class _Salvage:
    """The facts that can be read in an index, which may be damaged, missing or of an earlier version."""

    facts: tuple[Fact, ...] = ()
    sequence: int = 0
    at: float = 0.0

    @classmethod
    def read(cls, index: Path) -> "_Salvage":
        """Read an index from both ends of each table; what lies between two damaged pages is lost."""
        if not index.exists() or not index.stat().st_size:
            return cls()
        facts: dict[Fact, None] = {}
        meta: dict[str, float] = {}
        with contextlib.suppress(sqlite3.Error), closing(_open_read_only(index)) as connection:
            with contextlib.suppress(sqlite3.Error):
                meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
            for order in ("ASC", "DESC"):
                facts.update(_readable_facts(connection, order))
        if not facts and index.suffix != ".backup":
            _log.error("nothing of hosted repositories can be read in {index}", index=index.name)
        ordered = sorted(facts, key=lambda fact: isinstance(fact, Tagged))
        return cls(tuple(ordered), int(meta.get(HOSTED_SEQUENCE, 0)), meta.get(SERVICE_SECONDS, 0.0))


def merge_facts(layout: Layout, opened: OpenIndex, pages: Iterable[Iterable[Fact]]) -> None:
    """Add facts to the hosted tables of an open index, which nothing else uses; durable on return.

    Raises:
        OSError, sqlite3.Error: The disk failed.
    """
    sequence = opened.journal.sequence + 1
    with transaction(opened.writer):
        for facts in pages:
            _apply(layout, opened.writer, facts)
        opened.writer.execute(SET_META, (HOSTED_SEQUENCE, sequence))
    opened.journal.sequence = sequence
    take_snapshot(opened.journal, layout.index, layout.hosted_root, opened.service_seconds)


def read_earlier_backup(index: Path) -> tuple[list[Fact], float] | None:
    """Return the facts of a backup of an earlier version, and its service time; None if there is none."""
    found = _Salvage.read(index)
    return (list(found.facts), found.at) if found.facts else None


def _readable_facts(connection: sqlite3.Connection, order: str) -> Iterator[tuple[Fact, None]]:
    for sql in facts_queries(order):
        with contextlib.suppress(sqlite3.Error, ValueError):
            for (text,) in connection.execute(sql):
                (fact,) = hosted_facts.of_json([json.loads(text)])
                yield fact, None


def _open_read_only(index: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)


def _replay(layout: Layout, connection: sqlite3.Connection, records: Iterable[JournalRecord]) -> None:
    for record in records:
        _apply(layout, connection, record.facts)


def _apply(layout: Layout, connection: sqlite3.Connection, facts: Iterable[Fact]) -> None:
    for fact in facts:
        apply(connection, fact, _details(layout, fact) if isinstance(fact, ManifestLinked) else None)


def _details(layout: Layout, fact: ManifestLinked) -> ManifestDetails | None:
    """Read from a manifest's file what its fact does not record; None if the file is lost or damaged."""
    digest = Digest.parse(fact.digest)
    with contextlib.suppress(FileNotFoundError, RegistryError):
        paths = layout.candidates(ContentKind.MANIFEST, digest, is_hosted=True)
        manifest = read_manifest(paths, digest, fact.media_type)
        return None if manifest is None else ManifestDetails.of(manifest)
    return None


def _set_aside(layout: Layout) -> Path | None:
    """Give the index another name, its logs first, which must never be taken for those of a new index.

    The index keeps its own name too, until a new one replaces it. Returns the other name; None if there is
    no index.
    """
    index, number = layout.index, 1
    if not index.exists():
        disk.unlink_all([_beside(index, suffix) for suffix in _LOGS])
        return None
    while (aside := _beside(index, f".broken-{number}")).exists():
        number += 1
    for suffix in _LOGS:
        with contextlib.suppress(FileNotFoundError):
            _beside(index, suffix).rename(_beside(aside, suffix))
    _beside(index, "-shm").unlink(missing_ok=True)
    try:
        aside.hardlink_to(index)
    except OSError:  # a file system without links
        index.rename(aside)
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read_meta(connection: sqlite3.Connection, name: str) -> float | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else float(row[0])


def _set_meta(connection: sqlite3.Connection, sequence: int, at: float) -> None:
    """Set the sequence of the last change in the journal, and the service time."""
    connection.executemany(SET_META, ((HOSTED_SEQUENCE, sequence), (SERVICE_SECONDS, at)))
