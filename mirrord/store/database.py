"""Database: the index, written at once in memory and a moment later on the disk, by one thread.

A pull waits for no commit. What it writes goes into an overlay, where every later read finds it, and a
writer thread commits whatever has gathered there as one batch, in one SQLite transaction. Reads happen on
the reactor, by key: a B-tree in the page cache answers in microseconds, a thread would take a hundred.
SQLite's write-ahead log lets them continue while the writer commits.

A batch that fails (a full disk, an I/O error) loses nothing: the overlay keeps it and it is retried at
growing intervals until it succeeds. While the disk refuses, nothing grows without bound: uses are dropped
first, then the oldest rows, which cost a request to the upstream or are found again by recovery. While
the disk accepts, no row is dropped, however many arrive at once: the next batch has them all. A row that
SQLite cannot store at all (a number of more than 64 bits, half a surrogate pair) would fail every batch
that contains it. It should have been rejected much earlier; here it is left out and logged.

Hosted repositories do not use the overlay. `transact` runs a function on the writer's connection, behind
the rows of the same batch, and returns once its changes are in the journal (journal.py) and committed. No
reader sees a change before it is durable, so nothing has to be undone when the disk refuses; and since there
is one writer, checks and changes made in one transaction have one order. A commit itself is not synced: a
power cut may take the last ones, of which the journal repeats those that were promised.

A damaged page may be found long after the file was opened. It is not repaired while others read it, and what
would be written to it could be lost: a file marks the index as condemned, no further batch is written, and
`damaged` fires, whereupon the daemon ends (service.py). The next start rebuilds it (recovery.py). What
was promised is in the journal. Reads go on, and fail where the damage is.

A disk that hangs does not refuse. A caller that waits for it gets an error after a while, and later callers
get one at once until the batch ends; the transaction may still be committed then.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.store.hosted_facts import Fact
from mirrord.store.hosted_rows import HostedTransaction
from mirrord.store.journal import HostedJournal
from mirrord.store.layout import FILE_MODE
from mirrord.store.overlay import UNKNOWN, Overlay, Statements
from mirrord.store.schema import HOSTED_SEQUENCE, SERVICE_SECONDS, SET_META, Key, R, Row, Table
from mirrord.store.threads import Threads

HOT_ROWS = 1000

GATHER_SECONDS = 0.02
RECENCY_SECONDS = 60.0
RETRY_SECONDS = (1.0, 60.0)

FLUSH_SECONDS = 10.0
"""The deadline of `flush`: clients of a full disk wait for it."""

COMMIT_SECONDS = 120.0
"""The deadline of `transact`: on an SD card, a commit waits for layers that are being written."""

_MARK = "SELECT 1 FROM meta LIMIT 1"
"""Read after each commit in the writer's thread: the first reader of a commit marks it in the -shm file, a
mapping. While the file system is frozen or hangs, that page fault would block the reactor."""

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNFIT = (
    OverflowError,
    TypeError,
    ValueError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""Exceptions that are due to the row itself, whatever the state of the disk."""

T = TypeVar("T")


@attrs.define(eq=False)
class Transaction(Generic[T]):
    """A function for the writer's thread; `ended` fires on the reactor with its result or its exception."""

    _work: Callable[[HostedTransaction], T]
    ended: Deferred[T] = attrs.field(factory=Deferred, init=False)
    _outcome: T | Failure = attrs.field(init=False)

    def run(self, connection: sqlite3.Connection) -> list[Fact]:
        """Run the function as one part of SQLite's transaction, and return what it changed.

        Its failure undoes this part alone.

        Raises:
            sqlite3.Error: The disk failed, or the index is damaged, which concerns all parts.
        """
        transaction = HostedTransaction(connection)
        connection.execute("SAVEPOINT work")
        try:
            self._outcome = self._work(transaction)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not isinstance(error, _UNFIT):
                raise
            self._outcome = Failure()
            connection.execute("ROLLBACK TO work")
            transaction.facts.clear()
        connection.execute("RELEASE work")
        return transaction.facts

    def end(self, refusal: OSError | None) -> None:
        """Fire `ended`: with the function's outcome, unless the disk refused the whole batch."""
        if refusal is not None:
            self.ended.errback(refusal)
        elif isinstance(self._outcome, Failure):
            self.ended.errback(self._outcome)
        else:
            self.ended.callback(self._outcome)


@attrs.define(eq=False, kw_only=True)
class Database:
    """Keyed rows of the index, and transactions on it.

    `trouble` is why the last batch failed, None if it succeeded. `damaged` fires, once, with the reason, when
    the index is found damaged; `condemned` is where a file marks it for the next start.
    """

    _reader: sqlite3.Connection
    _writer: sqlite3.Connection
    _journal: HostedJournal
    _condemned: Path
    _threads: Threads
    _clock: IReactorTime
    _monotonic: Callable[[], float]
    _service_seconds: float
    _started: float = attrs.field(init=False)
    _overlay: Overlay = attrs.field(factory=Overlay, init=False)
    _hot: dict[tuple[Table[Any], Key], Row] = attrs.field(factory=dict, init=False)
    _refusal: OSError | None = attrs.field(default=None, init=False)
    damaged: Deferred[str] = attrs.field(factory=Deferred, init=False)
    _damage: OSError | None = attrs.field(default=None, init=False)
    _is_writing: bool = attrs.field(default=False, init=False)
    _batch_began: float = attrs.field(default=0.0, init=False)
    _are_uses_due: bool = attrs.field(default=False, init=False)
    _retry_seconds: float = attrs.field(default=0.0, init=False)
    _rows_timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _uses_timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _waiters: list[Deferred[None]] = attrs.field(factory=list, init=False)
    _transactions: list[Transaction[Any]] = attrs.field(factory=list, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._started = self._monotonic()

    @property
    def trouble(self) -> str | None:
        """Why rows cannot be written: the index is damaged, for good, or the last batch failed; or None."""
        problem = self._damage or self._refusal
        return None if problem is None else str(problem)

    def require_intact(self) -> None:
        """Return if the index is not known to be damaged.

        Raises:
            OSError: It is, and no change can be made to hosted repositories before the next start.
        """
        if self._damage is not None:
            raise self._damage

    def now(self) -> float:
        """Return service time: the seconds that this store has been in service (ADR 0002).

        It runs while the daemon does, continues where the last run wrote it down, and is the time of all
        `last_used` columns.
        """
        return self._service_seconds + self._monotonic() - self._started

    def get(self, table: Table[R], key: Key) -> R | None:
        """Return the row of this key, if there is one. It may have been used since its `last_used`."""
        row: R | None = self._hot.get((table, key))  # type: ignore[assignment]  # its keys lead to its rows
        if row is None:
            row = self._look_up(table, key)
            if row is not None:
                self._cache(table, key, row)
        return row

    def put(self, table: Table[R], row: R) -> None:
        """Write a row, replacing the one of the same key."""
        key = table.key_of(row)
        self._cache(table, key, row)
        self._overlay.put(table, key, row)
        self._schedule_rows()

    def delete(self, table: Table[R], key: Key) -> None:
        """Delete the row of this key."""
        self._hot.pop((table, key), None)
        self._overlay.put(table, key, None)
        self._schedule_rows()

    def use(self, table: Table[R], key: Key) -> None:
        """Record that the row of this key is used now. It is written within a minute: no write per hit."""
        self._overlay.use(table, key[: table.used_columns], self.now())
        self._schedule_uses()

    def is_unused_since(self, table: Table[R], key: Key, since: float) -> bool:
        """Return whether a row of the file, last used before `since`, was neither used nor written after."""
        is_settled = self._overlay.get(table, key) is UNKNOWN
        return is_settled and self._overlay.last_use(table, key[: table.used_columns]) <= since

    def last_used(self, table: Table[R], key: Key) -> float | None:
        """Return when the row of this key was last used or written; None if there is none."""
        row = self._look_up(table, key)
        return row and max(row.last_used, self._overlay.last_use(table, key[: table.used_columns]))

    def unwritten(self, table: Table[R]) -> Iterator[R]:
        """Iterate over the rows that only the overlay has; `select` finds older ones under their keys."""
        return self._overlay.rows(table)

    def is_overlaid(self, table: Table[R], key: Key) -> bool:
        """Return whether the row that `select` finds under this key is out of date."""
        return self._overlay.get(table, key) is not UNKNOWN

    def select(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Query the file alone. It runs on the reactor, so it has to be small and use an index.

        Raises:
            OSError: The file cannot be read.
        """
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self.translate(error) from error

    def pages(self, sql: str, *parameters: Any, key: slice) -> Iterator[list[tuple[Any, ...]]]:
        """Iterate over the pages of a query, as `select` returns them.

        Its last parameters are those columns of the row before the page; "" each for the first page.
        """
        after: tuple[Any, ...] = ("",) * (key.stop - (key.start or 0))
        while page := self.select(sql, (*parameters, *after)):
            yield page
            after = page[-1][key]

    async def flush(self) -> None:
        """Write everything to the disk that was put or used so far.

        Raises:
            OSError: The disk failed, or has not responded for FLUSH_SECONDS; the write is retried later.
        """
        await self._flush(FLUSH_SECONDS)

    async def transact(self, work: Callable[[HostedTransaction], T]) -> T:
        """Run `work` in a thread, on all that was written so far; on return its changes are in the journal.

        Its changes are found by `select` from then on, and not before. An exception of `work` undoes them
        and is raised here.

        Raises:
            OSError: The disk failed, or the index is damaged; `work` is not retried. ETIMEDOUT if the disk
                has not responded for COMMIT_SECONDS: the change may still be made later.
        """
        self.require_intact()
        self._require_response(COMMIT_SECONDS)
        transaction = Transaction(work)
        self._transactions.append(transaction)
        self._write()
        return await self._in_time(transaction.ended, COMMIT_SECONDS)

    async def close(self) -> None:
        """Write everything that waits, and what arrives meanwhile; what the disk refuses now is lost."""
        try:
            await self._flush(COMMIT_SECONDS)
            while self._overlay.has_rows or self._overlay.has_uses:
                await self._flush(COMMIT_SECONDS)
        except OSError as error:
            if self._damage is None:
                self._log.error("index closed without its last changes: {error}", error=str(error))
        _stop(self._rows_timer)
        _stop(self._uses_timer)
        if not self._is_writing:  # SQLite would wait for the thread that uses the connection
            self._writer.close()
            self._reader.close()

    def translate(self, error: Exception) -> OSError:
        """Return an error of SQLite as that of a failing disk, ENOSPC or EIO; condemn a damaged index."""
        if isinstance(error, OSError):
            return error
        code = primary_code(error)
        if code in _CORRUPT:
            self._condemn(error)
        return OSError(errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO, f"index: {error}")

    async def _flush(self, seconds: float) -> None:
        self._require_response(seconds)
        flushed: Deferred[None] = Deferred()
        self._waiters.append(flushed)
        self._write_uses()
        await self._in_time(flushed, seconds)

    def _require_response(self, seconds: float) -> None:
        """Raise ETIMEDOUT if the disk has not responded to the running batch for so long."""
        if self._is_writing and self._clock.seconds() - self._batch_began >= seconds:
            raise _timeout(self._clock.seconds() - self._batch_began)

    async def _in_time(self, ended: Deferred[T], seconds: float) -> T:
        try:
            return await ended.addTimeout(seconds, self._clock)
        except TimedOut:
            raise _timeout(seconds) from None

    def _look_up(self, table: Table[R], key: Key) -> R | None:
        row = self._overlay.get(table, key)
        if row is not UNKNOWN:
            return row
        for values in self.select(table.select, key):
            return table.row._make(values)
        return None

    def _cache(self, table: Table[R], key: Key, row: Row) -> None:
        """Cache a row that is read again and again: a look-up costs as much as the rest of a hit."""
        self._hot[table, key] = row
        if len(self._hot) > HOT_ROWS:
            del self._hot[next(iter(self._hot))]

    def _schedule_rows(self) -> None:
        """Write the rows of the overlay in a moment, with those that arrive until then."""
        if self._rows_timer is None and not self._is_writing:
            self._rows_timer = self._clock.callLater(max(GATHER_SECONDS, self._retry_seconds), self._write)

    def _schedule_uses(self) -> None:
        if self._uses_timer is None:
            self._uses_timer = self._clock.callLater(RECENCY_SECONDS, self._write_uses)

    def _write_uses(self) -> None:
        _stop(self._uses_timer)
        self._uses_timer, self._are_uses_due = None, True
        self._write()

    def _write(self) -> None:
        _stop(self._rows_timer)
        self._rows_timer = None
        if not self._is_writing:
            self._is_writing, self._batch_began = True, self._clock.seconds()
            Deferred.fromCoroutine(self._write_batch())

    async def _write_batch(self) -> None:
        waiters, self._waiters = self._waiters, []
        transactions, self._transactions = self._transactions, []
        statements = self._overlay.begin_batch(with_uses=self._are_uses_due)
        statements.append((SET_META, [(SERVICE_SECONDS, self.now())]))
        self._are_uses_due = False
        refusal = None
        try:
            self.require_intact()
            for row in await self._threads.index(
                _run, self._writer, self._journal, self.now(), statements, transactions
            ):
                self._log.error("row rejected by the index and dropped: {row!s:.500}", row=row)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next batch has to be written
            refusal = self.translate(error)
        self._is_writing = False
        self._settle(refusal)
        for waiter in waiters:
            waiter.callback(None) if refusal is None else waiter.errback(refusal)
        for transaction in transactions:
            transaction.end(refusal)
        if self._waiters or self._transactions or self._are_uses_due:
            self._write()

    def _settle(self, refusal: OSError | None) -> None:
        self._refusal = refusal
        if refusal is None:
            self._overlay.committed()
            self._retry_seconds = 0.0
        else:
            self._overlay.failed()
            if not self._retry_seconds and self._damage is None:
                self._log.error(
                    "cannot write the index; changes stay in memory and will be retried: {error}",
                    error=str(refusal),
                )
            first, longest = RETRY_SECONDS
            self._retry_seconds = min(max(first, 2 * self._retry_seconds), longest)
        if self._overlay.has_rows:
            self._schedule_rows()
        if self._overlay.has_uses:
            self._schedule_uses()

    def _condemn(self, error: Exception) -> None:
        """Refuse all further changes, and let the next start rebuild the index."""
        if self._damage is not None:
            return
        self._damage = OSError(errno.EIO, f"index: damaged, until the next start rebuilds it: {error}")
        # On the reactor, once: without this file the next start may take the damaged index for a sound one.
        with contextlib.suppress(OSError):
            self._condemned.touch(FILE_MODE)
        self.damaged.callback(str(error))


def primary_code(error: Exception) -> int:
    """Return SQLite's result code without its extension; 0 if the error is not SQLite's own."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _run(
    connection: sqlite3.Connection,
    journal: HostedJournal,
    now: float,
    statements: Statements,
    transactions: list[Transaction[Any]],
) -> list[tuple[Any, ...]]:
    """Run a batch as one transaction of SQLite; return the rows that were left out.

    What it changes in hosted repositories is in the journal before it is committed: a power cut may take the
    commit, which is not synced, and the journal repeats it.
    """
    unfit: list[tuple[Any, ...]] = []
    sequence: int | None = None
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, rows in statements:
            try:
                connection.executemany(sql, rows)
            except _UNFIT:
                unfit += [row for row in rows if not _fits(connection, sql, row)]
        facts = [fact for transaction in transactions for fact in transaction.run(connection)]
        if facts:
            sequence = journal.append(facts, now)
            connection.execute(SET_META, (HOSTED_SEQUENCE, sequence))
        connection.execute("COMMIT")
    except BaseException:
        if sequence is not None:
            journal.abort(sequence, now)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute(_MARK).fetchone()
    return unfit


def _fits(connection: sqlite3.Connection, sql: str, row: tuple[Any, ...]) -> bool:
    """Run a statement for one row, perhaps a second time: every statement can be repeated."""
    try:
        connection.execute(sql, row)
    except _UNFIT:
        return False
    return True


def _timeout(seconds: float) -> OSError:
    return OSError(errno.ETIMEDOUT, f"the disk has not completed a write of the index in {seconds:.0f} s")


def _stop(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
