"""Recent: a memory that is bounded in number and in time."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@attrs.define(eq=False)
class Recent(Generic[K, V]):
    """Values by key, each for `seconds` after it was noted; the oldest of more than `limit` is forgotten.

    `clock` gives seconds that only ever grow.
    """

    _clock: Callable[[], float]
    _seconds: float
    _limit: int
    _entries: OrderedDict[K, tuple[float, V]] = attrs.field(factory=OrderedDict, init=False)

    def note(self, key: K, value: V) -> None:
        """Remember the value, as new."""
        self._entries[key] = (self._clock(), value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def recall(self, key: K) -> V | None:
        """The value that was noted, if that was not too long ago."""
        noted_at, value = self._entries.get(key, (None, None))
        if noted_at is None or self._clock() - noted_at >= self._seconds:
            self._entries.pop(key, None)
            return None
        return value

    def __len__(self) -> int:
        return len(self._entries)
