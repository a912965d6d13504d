"""Overlay: the rows of the index that are not in its file yet."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, Literal

import attrs

from mirrord.store.schema import Key, R, Row, Table

MAX_ROWS = 50_000
MAX_USES = 20_000


class _Unknown(Enum):
    """A type with one value, so that mypy can distinguish it from a row and from None."""

    UNKNOWN = "unknown"


UNKNOWN: Final = _Unknown.UNKNOWN
"""Returned by `Overlay.get` for a row that only the file may have."""

Statements = list[tuple[str, list[tuple[Any, ...]]]]
"""SQL, and the parameters of each of its executions."""

_Rows = dict[tuple[Table[Any], Key], Row | None]
_Uses = dict[tuple[Table[Any], Key], float]


@attrs.define(eq=False)
class Overlay:
    """Rows and uses that are not in the file yet; None stands for a deleted row.

    One batch at a time is being committed; until it is, the overlay keeps it beneath newer rows.
    """

    _rows: _Rows = attrs.field(factory=dict, init=False)
    _uses: _Uses = attrs.field(factory=dict, init=False)
    _batch_rows: _Rows = attrs.field(factory=dict, init=False)
    _batch_uses: _Uses = attrs.field(factory=dict, init=False)
    _is_refused: bool = attrs.field(default=False, init=False)

    @property
    def has_rows(self) -> bool:
        """Whether rows wait for a batch."""
        return bool(self._rows)

    @property
    def has_uses(self) -> bool:
        """Whether uses wait for a batch."""
        return bool(self._uses)

    def get(self, table: Table[R], key: Key) -> R | Literal[_Unknown.UNKNOWN] | None:
        """Return the row of a key; None if it is deleted, UNKNOWN if the file has to be read."""
        row = self._rows.get((table, key), UNKNOWN)
        if row is UNKNOWN:
            row = self._batch_rows.get((table, key), UNKNOWN)
        return row  # type: ignore[return-value]  # a table's keys lead to its own rows only

    def rows(self, table: Table[R]) -> Iterator[R]:
        """Iterate over all rows of a table that are not in the file yet, as they are now."""
        for (of, _), row in {**self._batch_rows, **self._rows}.items():
            if of is table and row is not None:
                yield row  # type: ignore[misc]  # as above

    def put(self, table: Table[R], key: Key, row: R | None) -> None:
        """Write a row; None deletes it."""
        self._rows.pop((table, key), None)
        self._rows[table, key] = row
        if self._is_refused and len(self._rows) > MAX_ROWS:
            self._uses.clear()
            del self._rows[next(iter(self._rows))]

    def use(self, table: Table[R], key: Key, now: float) -> None:
        """Record that a row is used now."""
        self._uses.pop((table, key), None)
        self._uses[table, key] = now
        if len(self._uses) > MAX_USES:
            del self._uses[next(iter(self._uses))]

    def last_use(self, table: Table[R], key: Key) -> float:
        """Return the last use that the file does not have; 0 if there is none."""
        return self._uses.get((table, key)) or self._batch_uses.get((table, key), 0.0)

    def begin_batch(self, *, with_uses: bool) -> Statements:
        """Make a batch of all that waits and return its SQL; `committed` or `failed` ends it."""
        self._batch_rows, self._rows = self._rows, {}
        if with_uses:
            self._batch_uses, self._uses = self._uses, {}
        runs: dict[str, list[tuple[Any, ...]]] = {}
        for (table, key), row in self._batch_rows.items():
            if row is None:
                runs.setdefault(table.delete, []).append(key)
            else:
                runs.setdefault(table.upsert, []).append(row)
        for (table, key), now in self._batch_uses.items():
            runs.setdefault(table.touch, []).append((now, *key))
        return list(runs.items())

    def committed(self) -> None:
        """Drop the batch: it is in the file."""
        self._batch_rows, self._batch_uses = {}, {}
        self._is_refused = False

    def failed(self) -> None:
        """Put the batch back, beneath what is newer: it is not in the file."""
        rows, uses = self._batch_rows | self._rows, self._batch_uses | self._uses
        self._rows = dict(list(rows.items())[-MAX_ROWS:])
        self._uses = dict(list(uses.items())[-MAX_USES:])
        self._batch_rows, self._batch_uses = {}, {}
        self._is_refused = True
