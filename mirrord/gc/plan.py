"""The plan: which entries go, in order. Pure: numbers in, entries out."""

from collections.abc import Callable, Iterable, Iterator

import attrs

from mirrord.oci.entry import Entry, Kind

LOW_WATER = 0.95
"""A sweep goes a little below `max_size`, so that the next pull does not sweep again."""


@attrs.frozen
class Limits:
    """What the operator allows.

    `max_size` bounds what the store takes of the disk (None: no bound), `min_free` is what must stay
    free of the file system, both in bytes. Content that nobody used for `unused_for_seconds` goes,
    and what an unfinished download left goes after `partials_seconds`.
    """

    max_size: int | None
    min_free: int
    unused_for_seconds: float
    partials_seconds: float

    def is_expired(self, entry: Entry) -> bool:
        """Whether this entry goes whatever the room."""
        is_leftover = entry.kind is Kind.LEFTOVER
        return entry.idle_seconds >= (self.partials_seconds if is_leftover else self.unused_for_seconds)


@attrs.frozen
class Occupancy:
    """How full the disk is, in bytes.

    `total` is what the store takes, `busy` what of it cannot go now, `promised` what running downloads
    will still write, `free` what the file system has left.
    """

    total: int
    busy: int
    promised: int
    free: int

    def can_fit(self, size: int, limits: Limits) -> bool:
        """Whether `size` more bytes fit when all has gone that may go."""
        bare = attrs.evolve(self, total=self.busy, free=self.free + self.total - self.busy)
        return bare.excess(size, limits) <= 0

    def excess(self, size: int, limits: Limits) -> int:
        """How many bytes have to go before `size` more fit; 0 or less if they fit now."""
        too_few_free = limits.min_free + self.promised + size - self.free
        if limits.max_size is None:
            return too_few_free
        return max(too_few_free, self.total + self.promised + size - limits.max_size)

    def sweep_excess(self, size: int, limits: Limits) -> int:
        """How many bytes a sweep for `size` more takes away: the excess and some more, if there is any."""
        excess = self.excess(size, limits)
        slack = 0 if limits.max_size is None else int(limits.max_size * (1 - LOW_WATER))
        return excess + slack if excess > 0 else 0


def victims(
    entries: Iterable[Entry], excess: int, limits: Limits, is_busy: Callable[[Entry], bool]
) -> Iterator[Entry]:
    """The entries that go: what is expired, and what was used longest ago until `excess` bytes are gone.

    `entries` come in that order, and no more of them are read than it takes. What is busy stays, and
    does not count.
    """
    for entry in entries:
        if excess <= 0 and entry.idle_seconds < min(limits.unused_for_seconds, limits.partials_seconds):
            return
        if (excess > 0 or limits.is_expired(entry)) and not is_busy(entry):
            excess -= entry.size
            yield entry
