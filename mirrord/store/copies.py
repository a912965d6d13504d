"""Copies of the index's tables of hosted repositories, kept beside the index in case it breaks.

A mirror can rebuild a lost index from its upstreams. Hosted repositories exist nowhere else: so their
tables, and nothing else, are copied to a file of their own, soon after the first change, then once an hour
while there are changes, and when the store is closed. A copy is of one moment, and replaces the previous
one when it is whole on the disk.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mirrord.store import disk
from mirrord.store.hosted_rows import COLUMNS
from mirrord.store.layout import FILE_MODE, Layout
from mirrord.store.schema import HOSTED_TABLES, VERSION
from mirrord.store.threads import Threads

FIRST_SECONDS = 60.0
INTERVAL_SECONDS = 3600.0

_COPIED_AT = "copied_at"
_SHIFT = """
SELECT coalesce((SELECT value FROM main.meta WHERE name = 'service_seconds'), 0.0)
     - coalesce((SELECT value FROM copy.meta WHERE name = 'service_seconds'), 0.0)
"""
_META = "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;"


@attrs.define(eq=False, kw_only=True)
class HostedCopies:
    """Makes copies while there are changes."""

    _layout: Layout
    _threads: Threads
    _clock: IReactorTime
    _wall_clock: Callable[[], float]
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _due_at: float = attrs.field(default=0.0, init=False)
    _is_changed: bool = attrs.field(default=False, init=False)
    _log = Logger()

    def changed(self) -> None:
        """Schedule a copy: a hosted repository has changed."""
        self._is_changed = True
        if self._timer is None:
            wait = max(FIRST_SECONDS, self._due_at - self._clock.seconds())
            self._timer = self._clock.callLater(wait, self._begin)

    async def close(self) -> None:
        """Copy what has changed since the last copy; if the disk refuses, the last copy stays."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._is_changed:
            await self._copy()

    def _begin(self) -> None:
        self._due_at = self._clock.seconds() + INTERVAL_SECONDS
        Deferred.fromCoroutine(self._copy()).addErrback(
            lambda failure: self._log.failure("copy of hosted repositories failed", failure)
        )

    async def _copy(self) -> None:
        self._timer, self._is_changed = None, False
        try:
            await self._threads.sync(copy_hosted, self._layout.index, self._layout.copy, self._wall_clock())
        except (OSError, sqlite3.Error) as error:
            self._log.error("hosted repositories could not be copied: {error}", error=str(error))
            self.changed()


def copy_hosted(index: Path, copy: Path, now: float) -> None:
    """Copy the hosted tables of an index that may be in use; `now` is wall clock.

    Raises:
        OSError, sqlite3.Error: The disk failed, or the index is damaged; an older copy is unchanged.
    """
    new = copy.with_name(f"{copy.name}-new")
    for leftover in (new, new.with_name(f"{new.name}-journal")):
        leftover.unlink(missing_ok=True)
    new.touch(FILE_MODE)
    with closing(sqlite3.connect(index, timeout=5, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS copy", (str(new),))
        connection.execute("PRAGMA copy.synchronous = FULL")
        connection.execute("BEGIN")
        script = HOSTED_TABLES + _META
        for statement in script.replace("CREATE TABLE ", "CREATE TABLE copy.").split(";"):
            connection.execute(statement)
        for table, columns in COLUMNS.items():
            connection.execute(f"INSERT INTO copy.{table} SELECT {columns} FROM main.{table}")  # noqa: S608
        connection.execute("INSERT INTO copy.meta SELECT * FROM main.meta")
        connection.execute("INSERT OR REPLACE INTO copy.meta VALUES (?, ?)", (_COPIED_AT, now))
        connection.execute(f"PRAGMA copy.user_version = {VERSION}")
        connection.execute("COMMIT")
    new.rename(copy)
    disk.sync_folder(copy.parent)


def open_copy(copy: Path) -> sqlite3.Connection:
    """Open a copy for reading only."""
    return sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)


def copied_at(copy: Path) -> float:
    """Return when a copy was made, by wall clock.

    Raises:
        sqlite3.Error: The file is not a copy.
    """
    with closing(open_copy(copy)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (_COPIED_AT,)).fetchone()
        return float(row[0]) if row else 0.0


def restore_hosted(connection: sqlite3.Connection, copy: Path) -> int:
    """Insert the rows of a copy into an index, replacing rows of the same key; return the number of links.

    The ages of rows continue from what they were when they were copied.

    Raises:
        sqlite3.Error: The copy cannot be read, or the disk failed; the index is unchanged.
    """
    connection.execute("ATTACH ? AS copy", (str(copy),))
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT OR IGNORE INTO main.meta SELECT * FROM copy.meta WHERE name <> ?", (_COPIED_AT,)
        )
        (shift,) = connection.execute(_SHIFT).fetchone()
        for table, columns in COLUMNS.items():
            shifted = columns.replace("touched", f"touched + {shift!r}")
            connection.execute(f"INSERT OR REPLACE INTO main.{table} SELECT {shifted} FROM copy.{table}")  # noqa: S608
        (count,) = connection.execute("SELECT count(*) FROM copy.hosted_links").fetchone()
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("DETACH copy")
    return int(count)
