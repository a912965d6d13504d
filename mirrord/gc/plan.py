"""The plan: which entries go, in order. Pure: numbers in, entries out."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import attrs

from mirrord.gc.retention import RetentionRules
from mirrord.oci.content import ContentKind, Entry

LOW_WATER = 0.95
"""What has to make room makes a little more of it, so that the next pull does not have to again."""


@attrs.frozen
class GCLimits:
    """What the operator allows.

    `max_size` bounds what the store takes of the disk (None: no bound), `min_free` is what must stay
    free of the file system, both in bytes. Content that nobody used for `unused_for_seconds` goes,
    and what an unfinished download or upload left goes after `partials_seconds`. Hosted content is
    bound by none of this; `retention` says what of it need not stay.
    """

    max_size: int | None
    min_free: int
    unused_for_seconds: float
    partials_seconds: float
    retention: RetentionRules = RetentionRules()  # noqa: RUF009 - it is a frozen value

    def with_slack(self) -> "GCLimits":
        """Limits a little tighter than these."""
        max_size = None if self.max_size is None else int(self.max_size * LOW_WATER)
        return attrs.evolve(self, max_size=max_size, min_free=int(self.min_free / LOW_WATER))

    def is_expired(self, entry: Entry) -> bool:
        """Whether this entry goes whatever the room."""
        is_leftover = entry.kind is ContentKind.PARTIAL
        return entry.idle_seconds >= (self.partials_seconds if is_leftover else self.unused_for_seconds)


@attrs.frozen
class DiskUsage:
    """How full the disk is, in bytes.

    `total` is what the store takes, `busy` what of it cannot go now, `promised` what running downloads
    will still write, `free` what the file system has left. `lent` is what streams that are not kept
    will still write: the file system has to have it, `max_size` is not for them.
    """

    total: int
    busy: int
    promised: int
    free: int
    lent: int = 0

    def can_fit(self, size: int, limits: GCLimits) -> bool:
        """Whether `size` more bytes fit when all has gone that may go."""
        bare = attrs.evolve(self, total=self.busy, free=self.free + self.total - self.busy)
        return bare.excess(size, limits) <= 0

    def excess(self, size: int, limits: GCLimits) -> int:
        """How many bytes have to go before `size` more fit; 0 or less if they fit now."""
        too_few_free = limits.min_free + self.promised + self.lent + size - self.free
        if limits.max_size is None:
            return too_few_free
        return max(too_few_free, self.total + self.promised + size - limits.max_size)


def in_order(leftovers: Iterable[Entry], entries: Iterable[Entry], limits: GCLimits) -> Iterator[Entry]:
    """All `entries` as they may have to go: expired `leftovers`, then the others, which keep their order.

    Leftovers are few, and have an age of their own. Were they looked for among the entries, a sweep
    that has nothing to do would read all content that is younger than its own age and older than theirs.
    """

    def is_expired_leftover(entry: Entry) -> bool:
        return entry.kind is ContentKind.PARTIAL and limits.is_expired(entry)

    others = (entry for entry in entries if not is_expired_leftover(entry))
    return chain(filter(is_expired_leftover, leftovers), others)


def victims(
    entries: Iterable[Entry], excess: int, limits: GCLimits, is_busy: Callable[[Entry], bool]
) -> Iterator[Entry]:
    """The entries that go: what is expired, and what was used longest ago until `excess` bytes are gone.

    `entries` come as `in_order` has them, and no more of them are read than it takes. What is busy
    stays, and does not count.
    """
    for entry in entries:
        is_due = excess > 0 or limits.is_expired(entry)
        if not is_due and entry.idle_seconds < limits.unused_for_seconds:
            return
        if is_due and not is_busy(entry):
            excess -= entry.size
            yield entry
