"""Writer: carries the overlay into the file, one batch and one thread at a time.

A batch is whatever has gathered since the last one, in one transaction whose commit is the
durability point. A batch that fails (a full disk, an I/O error) loses nothing: the overlay keeps it
and it is tried again, ever more slowly, until it succeeds.

A row that SQLite cannot take at all (a number of more than 64 bits, half a surrogate pair) would fail
every batch that it is in. It should never have come so far; here it is left out, and the log says so.

What hosted repositories hold does not go through the overlay: it is written by `transact`, behind the
rows of the same batch. Nobody sees it before it is on the disk, so that nothing has to be taken back
when the disk refuses; and one writer puts all that is checked and changed there into one order.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mirrord.store.faults import Faults
from mirrord.store.overlay import Overlay, Statements
from mirrord.store.service_time import ServiceTime
from mirrord.store.threads import Threads
from mirrord.store.transaction import Transaction

GATHER_SECONDS = 0.02
RECENCY_SECONDS = 60.0
RETRY_SECONDS = (1.0, 60.0)

SERVICE_SECONDS = "service_seconds"
_SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_UNFIT = (
    OverflowError,
    TypeError,
    ValueError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What is raised for a row's own sake, whatever the disk can do."""

T = TypeVar("T")


@attrs.define(eq=False)
class Writer:
    """The only one who writes the index; `trouble` is why the last batch was refused, if it was."""

    _connection: sqlite3.Connection
    _overlay: Overlay
    _service_time: ServiceTime
    _threads: Threads
    _clock: IReactorTime
    _faults: Faults
    trouble: str | None = attrs.field(default=None, init=False)
    _is_writing: bool = attrs.field(default=False, init=False)
    _is_use_due: bool = attrs.field(default=False, init=False)
    _retry_seconds: float = attrs.field(default=0.0, init=False)
    _rows_timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _uses_timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _waiters: list[Deferred[None]] = attrs.field(factory=list, init=False)
    _transactions: list[Transaction[Any]] = attrs.field(factory=list, init=False)
    _log = Logger()

    def rows_changed(self) -> None:
        """Rows wait in the overlay: write them in a moment, with those that come until then."""
        if self._rows_timer is None and not self._is_writing:
            self._rows_timer = self._clock.callLater(max(GATHER_SECONDS, self._retry_seconds), self._write)

    def uses_changed(self) -> None:
        """Uses wait in the overlay: they are written within the minute, for there is no write a hit."""
        if self._uses_timer is None:
            self._uses_timer = self._clock.callLater(RECENCY_SECONDS, self._write_uses)

    async def flush(self) -> None:
        """Put all on the disk that was written or used so far.

        Raises:
            OSError: The disk refused; it is tried again later by itself.
        """
        flushed: Deferred[None] = Deferred()
        self._waiters.append(flushed)
        self._write_uses()
        await flushed

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work`, in a thread, on all that was written so far; all of it or nothing.

        On return it is on the disk, with what `work` returned. What `work` raises undoes it and is raised
        here.

        Raises:
            OSError: The disk refused; it is not tried again.
        """
        transaction = Transaction(work)
        self._transactions.append(transaction)
        self._write()
        return await transaction.ended

    async def close(self) -> None:
        """Write all that waits, and what comes while that is written; what the disk refuses now is lost."""
        try:
            await self.flush()
            while self._overlay.has_rows or self._overlay.has_uses:
                await self.flush()
        except OSError as error:
            self._log.error("the index closes without its last changes: {error}", error=str(error))
        _stop(self._rows_timer)
        _stop(self._uses_timer)
        self._connection.close()

    def _write_uses(self) -> None:
        _stop(self._uses_timer)
        self._uses_timer, self._is_use_due = None, True
        self._write()

    def _write(self) -> None:
        _stop(self._rows_timer)
        self._rows_timer = None
        if not self._is_writing:
            self._is_writing = True
            Deferred.fromCoroutine(self._write_batch())

    async def _write_batch(self) -> None:
        waiters, self._waiters = self._waiters, []
        transactions, self._transactions = self._transactions, []
        statements = self._overlay.take(with_uses=self._is_use_due)
        statements.append((_SET_META, [(SERVICE_SECONDS, self._service_time.now())]))
        self._is_use_due = False
        refusal = None
        try:
            for row in await self._threads.run(_run, self._connection, statements, transactions):
                self._log.error("the index cannot take {row!s:.500}, which is forgotten", row=row)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next batch has to be written
            refusal = self._faults.translate(error)
        self._is_writing = False
        self._settle(refusal)
        for waiter in waiters:
            waiter.callback(None) if refusal is None else waiter.errback(refusal)
        for transaction in transactions:
            transaction.end(refusal)
        if self._waiters or self._transactions or self._is_use_due:
            self._write()

    def _settle(self, refusal: OSError | None) -> None:
        self.trouble = None if refusal is None else str(refusal)
        if refusal is None:
            self._overlay.committed()
            self._retry_seconds = 0.0
        else:
            self._overlay.failed()
            if not self._retry_seconds:
                self._log.error(
                    "the index cannot be written, what it should say is kept: {error}", error=str(refusal)
                )
            first, longest = RETRY_SECONDS
            self._retry_seconds = min(max(first, 2 * self._retry_seconds), longest)
        if self._overlay.has_rows:
            self.rows_changed()
        if self._overlay.has_uses:
            self.uses_changed()


def _run(
    connection: sqlite3.Connection, statements: Statements, transactions: list[Transaction[Any]]
) -> list[tuple[Any, ...]]:
    """Run a batch as one transaction of SQLite's; returns the rows that were left out."""
    unfit: list[tuple[Any, ...]] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, rows in statements:
            try:
                connection.executemany(sql, rows)
            except _UNFIT:
                unfit += [row for row in rows if not _fits(connection, sql, row)]
        for transaction in transactions:
            transaction.run(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return unfit


def _fits(connection: sqlite3.Connection, sql: str, row: tuple[Any, ...]) -> bool:
    """Run a statement for one row, again if need be: they can all be repeated."""
    try:
        connection.execute(sql, row)
    except _UNFIT:
        return False
    return True


def _stop(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
