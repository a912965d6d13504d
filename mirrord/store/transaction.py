"""A transaction: some work on the index that is done as a whole or not at all."""

import sqlite3
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@attrs.define(eq=False)
class Transaction(Generic[T]):
    """Work for the writer's thread; `ended` fires on the reactor, with what it returned or raised."""

    _work: Callable[[sqlite3.Connection], T]
    ended: Deferred[T] = attrs.field(factory=Deferred, init=False)
    _outcome: T | Failure = attrs.field(init=False)

    def run(self, connection: sqlite3.Connection) -> None:
        """Do the work as a part of SQLite's transaction; if it fails, the other parts do not.

        Raises:
            sqlite3.OperationalError: The disk refused, which is about all parts.
        """
        connection.execute("SAVEPOINT work")
        try:
            self._outcome = self._work(connection)
        except sqlite3.OperationalError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it is for whoever asked for this work
            self._outcome = Failure()
            connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")

    def end(self, refusal: OSError | None) -> None:
        """Tell how it ended: as the work did, unless the disk refused all of it."""
        if refusal is not None:
            self.ended.errback(refusal)
        elif isinstance(self._outcome, Failure):
            self.ended.errback(self._outcome)
        else:
            self.ended.callback(self._outcome)
