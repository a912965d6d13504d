"""A bounded memory of answers: small things that may be asked for again within the minute."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


MAX_ENTRIES = 4096
"""However little they weigh: a key has its weight too."""


@attrs.frozen
class Memory(Generic[V]):
    """A remembered answer and how old it is."""

    value: V
    age_seconds: float


@attrs.define(eq=False)
class Remembered(Generic[K, V]):
    """Answers by key, the oldest forgotten first when their weights exceed `max_weight`, or are too many.

    `clock` gives seconds that only ever grow; how old is too old is for the caller to say.
    """

    _clock: Callable[[], float]
    _max_weight: int
    _weigh: Callable[[V], int] = attrs.field(default=lambda _: 1)
    _entries: OrderedDict[K, tuple[V, float]] = attrs.field(factory=OrderedDict, init=False)
    _weight: int = attrs.field(default=0, init=False)

    def note(self, key: K, value: V) -> None:
        """Remember an answer, as new."""
        self.forget(key)
        self._entries[key] = (value, self._clock())
        self._weight += self._weigh(value)
        while self._weight > self._max_weight or len(self._entries) > MAX_ENTRIES:
            self.forget(next(iter(self._entries)))

    def recall(self, key: K) -> Memory[V] | None:
        """The answer remembered for this key, however old."""
        entry = self._entries.get(key)
        return None if entry is None else Memory(entry[0], self._clock() - entry[1])

    def forget(self, key: K) -> None:
        """Remember nothing for this key."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= self._weigh(entry[0])
