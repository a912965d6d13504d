"""Overlay: rows that were written but are not in the file yet, and uses not yet noted there.

A pull waits for no commit: it reads its own writes from here. One batch at a time is on its way to
the file; until that is committed the overlay keeps it under what is newer. Where the file cannot be
written (a full disk) nothing grows without bound: uses are forgotten first, then the oldest rows,
which cost a question to the upstream or are found again by recovery. Where it can be, no row is
forgotten, however many come at once: the next batch takes them all.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, Literal

import attrs

from mirrord.store.tables import Key, R, Row, Table

MAX_ROWS = 50_000
MAX_USES = 20_000


class _Unknown(Enum):
    """A type of one value, so that mypy can tell it from a row and from None."""

    UNKNOWN = "unknown"


UNKNOWN: Final = _Unknown.UNKNOWN
"""What `get` says of a row that only the file knows about."""

Statements = list[tuple[str, list[tuple[Any, ...]]]]
"""SQL, and the parameters of each time that it is to be run."""

_Rows = dict[tuple[Table[Any], Key], Row | None]
_Uses = dict[tuple[Table[Any], Key], float]


@attrs.define(eq=False)
class Overlay:
    """Rows by table and key; None stands for a deleted one."""

    _rows: _Rows = attrs.field(factory=dict, init=False)
    _uses: _Uses = attrs.field(factory=dict, init=False)
    _rows_on_the_way: _Rows = attrs.field(factory=dict, init=False)
    _uses_on_the_way: _Uses = attrs.field(factory=dict, init=False)
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
        """The row of a key; None if it is deleted; UNKNOWN if the file has to be asked."""
        row = self._rows.get((table, key), UNKNOWN)
        if row is UNKNOWN:
            row = self._rows_on_the_way.get((table, key), UNKNOWN)
        return row  # type: ignore[return-value]  # a table's keys hold its own rows only

    def rows(self, table: Table[R]) -> Iterator[R]:
        """All rows of a table that are not in the file yet, as they are now."""
        for (of, _), row in {**self._rows_on_the_way, **self._rows}.items():
            if of is table and row is not None:
                yield row  # type: ignore[misc]  # as above

    def put(self, table: Table[R], key: Key, row: R | None) -> None:
        """Write a row, or delete it."""
        self._rows.pop((table, key), None)
        self._rows[table, key] = row
        if self._is_refused and len(self._rows) > MAX_ROWS:
            self._uses.clear()
            del self._rows[next(iter(self._rows))]

    def use(self, table: Table[R], key: Key, now: float) -> None:
        """Note that a row is used now."""
        self._uses.pop((table, key), None)
        self._uses[table, key] = now
        if len(self._uses) > MAX_USES:
            del self._uses[next(iter(self._uses))]

    def last_use(self, table: Table[R], key: Key) -> float:
        """The last use that the file does not know of; 0 if there is none."""
        return self._uses.get((table, key)) or self._uses_on_the_way.get((table, key), 0.0)

    def take(self, *, with_uses: bool) -> Statements:
        """Begin a batch of all that waits: what to run. Then comes `committed` or `failed`."""
        self._rows_on_the_way, self._rows = self._rows, {}
        if with_uses:
            self._uses_on_the_way, self._uses = self._uses, {}
        runs: dict[str, list[tuple[Any, ...]]] = {}
        for (table, key), row in self._rows_on_the_way.items():
            if row is None:
                runs.setdefault(table.delete, []).append(key)
            else:
                runs.setdefault(table.upsert, []).append(row)
        for (table, key), now in self._uses_on_the_way.items():
            runs.setdefault(table.touch, []).append((now, *key))
        return list(runs.items())

    def committed(self) -> None:
        """The batch is in the file."""
        self._rows_on_the_way, self._uses_on_the_way = {}, {}
        self._is_refused = False

    def failed(self) -> None:
        """The batch is not in the file: it waits again, beneath what is newer."""
        rows, uses = self._rows_on_the_way | self._rows, self._uses_on_the_way | self._uses
        self._rows = dict(list(rows.items())[-MAX_ROWS:])
        self._uses = dict(list(uses.items())[-MAX_USES:])
        self._rows_on_the_way, self._uses_on_the_way = {}, {}
        self._is_refused = True
