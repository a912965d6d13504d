"""The plan: which entries are evicted, in order. Pure: numbers in, entries out."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import attrs

from mirrord.gc.retention import RetentionRules
from mirrord.oci.content import ContentKind, Entry

UNLIMITED_INODES = 1 << 62
"""The free inodes of a file system that does not count them."""

MIN_INODES = 64
"""The free inodes that what is kept leaves to uploads, to the index and to other programs."""

INODE_BYTES = 1024 * 1024
"""How much is evicted for each inode that is missing; more only if that was not in vain."""

_LEAST_FILE_BYTES = 4096

LOW_WATER = 0.95
"""Whenever room has to be made, a little more is made, so that the next pull does not have to again."""


@attrs.frozen
class FreeSpace:
    """The bytes that a file system has left, and how many files can be created."""

    bytes: int
    inodes: int = UNLIMITED_INODES


@attrs.frozen(kw_only=True)
class GCLimits:
    """The operator's limits.

    `max_size` bounds what the store occupies (None: no bound), `min_free` is what must stay free of the file
    system, both in bytes, and `min_inodes` how many inodes. Content that has not been used for
    `unused_for_seconds` is evicted, and partials of downloads and uploads after `partials_seconds`. Hosted
    content is subject to none of this, only to `retention`.
    """

    max_size: int | None
    min_free: int
    unused_for_seconds: float
    partials_seconds: float
    min_inodes: int = MIN_INODES
    retention: RetentionRules = RetentionRules()  # noqa: RUF009 - it is a frozen value

    def with_slack(self) -> "GCLimits":
        """Return slightly tighter limits."""
        max_size = None if self.max_size is None else int(self.max_size * LOW_WATER)
        return attrs.evolve(self, max_size=max_size, min_free=int(self.min_free / LOW_WATER))

    def is_expired(self, entry: Entry) -> bool:
        """Return whether an entry is evicted even if there is room for it."""
        is_partial = entry.kind is ContentKind.PARTIAL
        return entry.idle_seconds >= (self.partials_seconds if is_partial else self.unused_for_seconds)


@attrs.frozen(kw_only=True)
class DiskUsage:
    """The usage of the disk, in bytes.

    `total` is what the store occupies, `busy` the part of it that cannot be evicted now, `reserved` what
    running downloads will still write, `free` what the file system has left. `lent` is what streams that
    are not kept will still write: it has to fit on the file system, but does not count towards `max_size`.
    `inodes` is how many files can be created.
    """

    total: int
    busy: int
    reserved: int
    free: int
    lent: int = 0
    inodes: int = UNLIMITED_INODES

    def can_fit(self, size: int, limits: GCLimits) -> bool:
        """Return whether `size` more bytes fit once everything evictable is evicted."""
        evictable = self.total - self.busy
        inodes = self.inodes + evictable // _LEAST_FILE_BYTES
        bare = attrs.evolve(self, total=self.busy, free=self.free + evictable, inodes=inodes)
        return bare.excess(size, limits) <= 0

    def excess(self, size: int, limits: GCLimits) -> int:
        """Return how many bytes to evict before `size` more fit; 0 or less if they fit now."""
        missing_bytes = limits.min_free + self.reserved + self.lent + size - self.free
        missing_free = max(missing_bytes, (limits.min_inodes - self.inodes) * INODE_BYTES)
        if limits.max_size is None:
            return missing_free
        return max(missing_free, self.total + self.reserved + size - limits.max_size)


def eviction_order(partials: Iterable[Entry], entries: Iterable[Entry], limits: GCLimits) -> Iterator[Entry]:
    """Iterate over all `entries`: expired `partials` first, then the others in their own order.

    Partials are few, and have a time limit of their own. If they were looked for among the entries, a sweep
    with nothing to do would read all content that is younger than its own limit and older than theirs.
    """

    def is_expired_partial(entry: Entry) -> bool:
        return entry.kind is ContentKind.PARTIAL and limits.is_expired(entry)

    others = (entry for entry in entries if not is_expired_partial(entry))
    return chain(filter(is_expired_partial, partials), others)


def victims(
    entries: Iterable[Entry], excess: int, limits: GCLimits, is_busy: Callable[[Entry], bool]
) -> Iterator[Entry]:
    """Iterate over the entries to evict: expired ones, and the least recently used up to `excess` bytes.

    `entries` come in `eviction_order`, and no more of them are read than needed. Busy entries are skipped,
    and do not count.
    """
    for entry in entries:
        is_due = excess > 0 or limits.is_expired(entry)
        if not is_due and entry.idle_seconds < limits.unused_for_seconds:
            return
        if is_due and not is_busy(entry):
            excess -= entry.size
            yield entry
