"""Snapshots: all that hosted repositories have, as facts, from which the index can be rebuilt.

A snapshot has the format of a journal file (journal.py): records of some facts each, all with the sequence of
the last change that is in it, and a last record with their number. With the journal from there on it
replaces a lost index, and the journal before it is no longer needed. The last two that are whole are kept: a
file that is needed once in five years may turn out to be unreadable then.

SQLite composes the text of the facts, which releases the GIL; a million of them are never in memory together.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from io import BufferedWriter
from itertools import islice, pairwise
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.store import disk
from mirrord.store.database import Database
from mirrord.store.hosted_facts import Fact
from mirrord.store.journal import HostedJournal, encode, journal_path, numbered, read_records
from mirrord.store.layout import FILE_MODE
from mirrord.store.schema import HOSTED_SEQUENCE, PAGE_ROWS, SERVICE_SECONDS
from mirrord.store.threads import Threads, shield

CHECK_SECONDS = 60.0
INTERVAL_SECONDS = 3600.0
MAX_JOURNAL_BYTES = 4 * 1024 * 1024
"""Reading as much at a start takes a tenth of a second."""

KEPT = 2

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW

_FACTS = (
    "SELECT CASE is_manifest "
    "WHEN 0 THEN json_array('blob', repository, digest, size, linked_at, touched) "
    "ELSE json_array('manifest', repository, digest, media_type, size, linked_at, touched) END "
    "FROM hosted_links ORDER BY repository {0}, digest {0}, is_manifest {0}",
    "SELECT json_array('tag', repository, tag, digest, tagged_at, touched) "
    "FROM hosted_tags ORDER BY repository {0}, tag {0}",
)
"""Links come before tags, as when they were pushed."""


def facts_queries(order: str = "ASC") -> tuple[str, ...]:
    """Return the queries for all facts of an index, as JSON arrays, in ascending or descending order."""
    return tuple(sql.format(order) for sql in _FACTS)


@attrs.frozen
class Snapshot:
    """A snapshot on the disk: its number, and the sequence and the service time of its last change."""

    path: Path
    number: int
    sequence: int
    at: float

    @classmethod
    def open(cls, path: Path, number: int) -> "Snapshot | None":
        """Return the snapshot in a file; None if it is damaged anywhere."""
        count, last = 0, None
        with contextlib.suppress(OSError):
            for record in read_records(path):
                count, last = count + 1, record
        if last is None or last.document.get("end") != count:
            return None
        return cls(path, number, last.sequence, last.at)

    def facts(self) -> Iterator[list[Fact]]:
        """Iterate over its facts, some at a time."""
        for record in read_records(self.path):
            yield record.facts


def snapshot_path(folder: Path, number: int) -> Path:
    """Return the path of a snapshot."""
    return folder / f"hosted.snapshot-{number}"


def open_snapshots(folder: Path) -> Iterator[Snapshot]:
    """Iterate over the snapshots of a folder that are whole, the newest first."""
    for number in sorted(numbered(folder, "snapshot"), reverse=True):
        snapshot = Snapshot.open(snapshot_path(folder, number), number)
        if snapshot is not None:
            yield snapshot


def numbered_snapshots(folder: Path) -> list[int]:
    """Return the numbers of the snapshots in a folder."""
    return numbered(folder, "snapshot")


def last_snapshot_sequence(folder: Path) -> int:
    """Return the sequence of the last change in any snapshot, by their headers; 0 if there is none."""
    headers = (
        next(read_records(snapshot_path(folder, number)), None) for number in numbered(folder, "snapshot")
    )
    return max((header.sequence for header in headers if header is not None), default=0)


def write_snapshot(index: Path, path: Path) -> int:
    """Write a snapshot of an index, which may be in use; return the sequence of its last change.

    Raises:
        OSError, sqlite3.Error: The disk failed, or the index is damaged; there is no snapshot then.
    """
    new = path.with_name(f"{path.name}.new")
    # Not by its name alone: SQLite would create an index that is missing.
    with closing(
        sqlite3.connect(f"{index.absolute().as_uri()}?mode=rw", uri=True, timeout=5, isolation_level=None)
    ) as connection:
        try:
            with os.fdopen(os.open(new, _NEW, FILE_MODE), "wb") as file:
                sequence = _write_facts(connection, file)
                file.flush()
                disk.commit(file.fileno(), new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
    return sequence


def _write_facts(connection: sqlite3.Connection, file: BufferedWriter) -> int:
    """Write the records of a snapshot; return the sequence of its last change."""
    connection.execute("BEGIN")
    meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    sequence, at = int(meta[HOSTED_SEQUENCE]), float(meta.get(SERVICE_SECONDS, 0.0))
    count = 1
    for sql in facts_queries():
        cursor = connection.execute(sql)
        while page := cursor.fetchmany(PAGE_ROWS):
            count += 1
            facts = ",".join(fact for (fact,) in page)
            file.write(encode(sequence, f'{{"at":{at!r},"facts":[{facts}]}}'))
    file.write(encode(sequence, f'{{"at":{at!r},"end":{count}}}'))
    return sequence


def prune(folder: Path) -> None:
    """Delete all but the newest snapshots that are whole, and the journal files that these do not need.

    Nothing is deleted if only damaged ones would take its place.

    Raises:
        OSError: The disk failed.
    """
    numbers = numbered(folder, "snapshot")
    kept = list(islice(open_snapshots(folder), KEPT))
    disk.unlink_all(list(folder.glob("hosted.snapshot-*.new")))
    if not kept or len(kept) < min(KEPT, len(numbers)):
        return
    needed_from = min(snapshot.sequence for snapshot in kept)
    disk.unlink_all([snapshot_path(folder, number) for number in numbers if number < kept[-1].number])
    for number, following in pairwise(sorted(numbered(folder, "journal"))):
        header = next(read_records(journal_path(folder, following)), None)
        if header is not None and header.sequence <= needed_from:
            journal_path(folder, number).unlink(missing_ok=True)


@attrs.define(eq=False, kw_only=True)
class SnapshotSchedule:
    """Takes a snapshot when the journal has grown, and after an hour with any change.

    The newest one is examined once after a start, and replaced if it is damaged. Each reads all of the hosted
    tables; if they are damaged, the older snapshots stay.
    """

    _journal: HostedJournal
    _index: Path
    _folder: Path
    _threads: Threads
    _clock: IReactorTime
    _database: Database
    _taken: int = attrs.field(init=False)
    _taken_at: float = attrs.field(init=False)
    _is_taking: bool = attrs.field(default=False, init=False)
    _is_examined: bool = attrs.field(default=False, init=False)
    _loop: LoopingCall = attrs.field(init=False)
    _running: Deferred[LoopingCall] = attrs.field(init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._taken, self._taken_at = self._journal.sequence, self._clock.seconds()
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._check()))
        self._loop.clock = self._clock
        self._running = self._loop.start(CHECK_SECONDS, now=False)

    async def stop(self) -> None:
        """Take no further snapshot; return when a running one is finished."""
        if self._loop.running:
            self._loop.stop()
        await self._running

    async def _check(self) -> None:
        is_due = self._clock.seconds() - self._taken_at >= INTERVAL_SECONDS
        has_changed = self._journal.sequence != self._taken
        must_take = has_changed and (is_due or self._journal.size > MAX_JOURNAL_BYTES)
        if self._is_taking or (self._is_examined and not must_take):
            return
        take = self._take if must_take else self._replace_damaged
        try:
            self._database.require_intact()
            self._is_taking = self._is_examined = True
            await shield(self._threads.sync(take, self._database.now()), self._ended)
        except (OSError, sqlite3.Error) as error:
            problem = self._database.translate(error)
            self._log.error("no snapshot of hosted repositories could be taken: {error}", error=str(problem))

    def _ended(self, result: int | Failure | None) -> None:
        """Record the end of an attempt, which may come after its deadline; None if it took no snapshot."""
        self._is_taking = False
        if isinstance(result, int):
            self._taken, self._taken_at = result, self._clock.seconds()

    def _replace_damaged(self, now: float) -> int | None:
        """Take a snapshot if the newest one cannot be read: its last changes are in the index alone."""
        newest = max(numbered(self._folder, "snapshot"), default=0)
        if Snapshot.open(snapshot_path(self._folder, newest), newest) is not None:
            return None
        self._log.error("snapshot {number} of hosted repositories is damaged; taking another", number=newest)
        return self._take(now)

    def _take(self, now: float) -> int:
        return take_snapshot(self._journal, self._index, self._folder, now)


def take_snapshot(journal: HostedJournal, index: Path, folder: Path, now: float) -> int:
    """Begin a journal file and write the snapshot that it continues; `now` is service time.

    Returns the sequence of the last change in the snapshot. Deletes what is no longer needed.

    Raises:
        OSError, sqlite3.Error: The disk failed; older snapshots and their journals are as they were.
    """
    number = journal.rotate(now) if journal.has_records else journal.number
    sequence = write_snapshot(index, snapshot_path(folder, number))
    prune(folder)
    return sequence
