"""Rows: the index as its readers see it, the overlay above the file.

Reads are made on the reactor by key: a B-tree in the page cache answers in microseconds, a thread
would take a hundred. SQLite's write-ahead log lets them go on while the writer commits.
"""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs

from mirrord.store.faults import Faults
from mirrord.store.overlay import UNKNOWN, Overlay
from mirrord.store.service_time import ServiceTime
from mirrord.store.tables import Key, R, Row, Table
from mirrord.store.writer import Writer

HOT_ROWS = 1000

T = TypeVar("T")


@attrs.define(eq=False)
class Rows:
    """Keyed rows: what is written is read at once, and is on the disk a little later."""

    _reader: sqlite3.Connection
    _overlay: Overlay
    _writer: Writer
    _service_time: ServiceTime
    _faults: Faults
    _hot: dict[tuple[Table[Any], Key], Row] = attrs.field(factory=dict, init=False)

    def now(self) -> float:
        """Service time, the time of all `last_used` columns."""
        return self._service_time.now()

    def get(self, table: Table[R], key: Key) -> R | None:
        """The row of this key; None if there is none. It may have been used since its `last_used`."""
        row: R | None = self._hot.get((table, key))  # type: ignore[assignment]  # a table's keys hold its rows
        if row is None:
            row = self._look_up(table, key)
            if row is not None:
                self._keep_hot(table, key, row)
        return row

    def put(self, table: Table[R], row: R) -> None:
        """Write a row, in place of the one of the same key."""
        key = table.key_of(row)
        self._keep_hot(table, key, row)
        self._overlay.put(table, key, row)
        self._writer.rows_changed()

    def delete(self, table: Table[R], key: Key) -> None:
        """Delete the row of this key."""
        self._hot.pop((table, key), None)
        self._overlay.put(table, key, None)
        self._writer.rows_changed()

    def use(self, table: Table[R], key: Key) -> None:
        """Note that the row of this key is used now."""
        self._overlay.use(table, key[: table.used_columns], self.now())
        self._writer.uses_changed()

    def is_unused_since(self, table: Table[R], key: Key, since: float) -> bool:
        """Whether a row of the file that was last used by then was neither used nor written since."""
        is_settled = self._overlay.get(table, key) is UNKNOWN
        return is_settled and self._overlay.last_use(table, key[: table.used_columns]) <= since

    def last_used(self, table: Table[R], key: Key) -> float | None:
        """When the row of this key was last used or written; None if there is none."""
        row = self._look_up(table, key)
        return row and max(row.last_used, self._overlay.last_use(table, key[: table.used_columns]))

    def unwritten(self, table: Table[R]) -> Iterator[R]:
        """The rows of a table that only the overlay has; what `select` finds under their keys is old."""
        return self._overlay.rows(table)

    def is_overlaid(self, table: Table[R], key: Key) -> bool:
        """Whether what `select` finds under this key is old."""
        return self._overlay.get(table, key) is not UNKNOWN

    def select(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """What the file alone says; small and by an index, for this is read on the reactor.

        Raises:
            OSError: The file cannot be read.
        """
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._faults.translate(error) from error

    async def flush(self) -> None:
        """Put all on the disk that was written or used so far.

        Raises:
            OSError: The disk refused; it is tried again later by itself.
        """
        await self._writer.flush()

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in a thread of the writer's, all of it or nothing; on return it is on the disk.

        What it wrote is what `select` finds from then on, and not before.

        Raises:
            OSError: The disk refused; it is not tried again.
        """
        return await self._writer.transact(work)

    @property
    def trouble(self) -> str | None:
        """Why the last batch was refused, if it was."""
        return self._writer.trouble

    async def close(self) -> None:
        """Flush and close."""
        await self._writer.close()
        self._reader.close()

    def _look_up(self, table: Table[R], key: Key) -> R | None:
        row = self._overlay.get(table, key)
        if row is not UNKNOWN:
            return row
        for values in self.select(table.select, key):
            return table.row._make(values)
        return None

    def _keep_hot(self, table: Table[R], key: Key, row: R) -> None:
        """Remember what is asked for again and again: a look-up costs as much as the rest of a hit."""
        self._hot[table, key] = row
        if len(self._hot) > HOT_ROWS:
            del self._hot[next(iter(self._hot))]
