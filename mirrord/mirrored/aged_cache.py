"""AgedCache: recent responses of upstreams with their ages, bounded in weight and in number."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs
from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


MAX_ENTRIES = 4096
"""The most values, whatever their weights: keys need memory too."""


@attrs.frozen
class AgedValue(Generic[V]):
    """A cached value and its age."""

    value: V
    age_seconds: float


@attrs.define(eq=False)
class AgedCache(Generic[K, V]):
    """Values by key, the least recently used evicted when their weights exceed `max_weight`.

    `clock` returns monotonic seconds. Values do not expire: how old is too old is for the caller to decide.
    """

    _clock: Callable[[], float]
    _max_weight: int
    _weigh: Callable[[V], int] = attrs.field(default=lambda _: 1)
    _entries: LRUCache[K, tuple[V, float]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._entries = LRUCache(self._max_weight, getsizeof=lambda entry: self._weigh(entry[0]))

    def put(self, key: K, value: V) -> None:
        """Cache a value of age 0, unless it weighs more than the whole cache may."""
        self.delete(key)
        if self._weigh(value) > self._max_weight:
            return
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.popitem()
        self._entries[key] = (value, self._clock())

    def get(self, key: K) -> AgedValue[V] | None:
        """Return the cached value, however old."""
        entry = self._entries.get(key)
        return None if entry is None else AgedValue(entry[0], self._clock() - entry[1])

    def delete(self, key: K) -> None:
        """Delete the value of this key, if there is one."""
        self._entries.pop(key, None)
