"""Mirrored content as the collector sees it: disk space, reservations, and eviction by least recent use."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.blobs import BlobStore
from mirrord.store.contents import Contents
from mirrord.store.database import Database
from mirrord.store.layout import Layout, footprint
from mirrord.store.mirrored_index import MirroredIndex
from mirrord.store.partials import PartialStore
from mirrord.store.threads import Threads, shield

ENTRIES_AT_ONCE = 32
"""Rows that are dropped at a time, a millisecond on the reactor."""


@attrs.define(eq=False, kw_only=True)
class EvictionStore:
    """Entries by least recent use, and reserved space; implements `EvictableContent` of `gc/ports.py`."""

    _layout: Layout
    _database: Database
    _contents: Contents
    _index: MirroredIndex
    _blobs: BlobStore
    _partials: PartialStore
    _threads: Threads

    @property
    def total_bytes(self) -> int:
        """The disk space of mirrored blobs and manifests, and of partials."""
        return self._contents.mirrored.bytes + self._partials.open_bytes + self._partials.parked_bytes

    @property
    def total_entries(self) -> int:
        """The number of mirrored blobs and manifests."""
        return self._contents.mirrored.entries

    @property
    def busy_bytes(self) -> int:
        """The part of `total_bytes` that cannot be evicted now: blobs being read, partials being written."""
        return self._blobs.pinned_bytes + self._partials.open_bytes

    @property
    def reserved_bytes(self) -> int:
        """The space reserved for running downloads that they have not used yet."""
        return self._partials.reserved_bytes

    def reserve(self, digest: Digest, size: int) -> None:
        """Reserve `size` more bytes, until the partial of `digest` has written them or ended."""
        self._partials.reserve(digest, size)

    @property
    def lent_bytes(self) -> int:
        """The space lent to streams that are not kept and that they have not used yet."""
        return self._partials.lent_bytes

    def lend(self, digest: Digest, size: int) -> None:
        """Reserve for a partial that will not be kept."""
        self._partials.lend(digest, size)

    def is_busy(self, entry: Entry) -> bool:
        """Return whether this entry cannot be evicted now."""
        return entry.kind is ContentKind.BLOB and self._blobs.is_pinned(Digest.parse(entry.name))

    async def flush(self) -> None:
        """Bring the order of `entries` up to date."""
        await self._database.flush()

    def entries(self) -> Iterator[Entry]:
        """Iterate over all that can be evicted, least recently used first, reading page by page."""
        content = map(self._contents.entry, self._contents.least_recently_used())
        return heapq.merge(content, self.partials(), key=lambda entry: -entry.idle_seconds)

    def partials(self) -> Iterator[Entry]:
        """Iterate over those of `entries` that interrupted downloads left."""
        now = self._database.now()
        for parked in self._partials.parked():
            yield Entry(
                kind=ContentKind.PARTIAL,
                name=parked.path.name,
                size=footprint(parked.size),
                idle_seconds=now - parked.since,
            )

    async def evict(self, entries: Sequence[Entry]) -> list[Entry]:
        """Evict entries, except busy ones, and return which; the first ENTRIES_AT_ONCE are absent at once.

        An entry that was used since it was read stays: a plan may be some slices old.
        """
        return await self._delete(entries, self._drop_idle)

    async def remove(self, entries: Sequence[Entry]) -> list[Entry]:
        """Delete content, unless a hosted repository links to it, however recently it was used; return which.

        A reader continues to the end: its descriptor keeps the file. Errors are as for `evict`.
        """
        return await self._delete(entries, self._drop_unlinked)

    def forget_unused(self, idle_seconds: float) -> Iterator[int]:
        """Delete links and tags that were not used for so long, in small slices; yield the number of each."""
        return self._index.forget_unused(idle_seconds)

    async def _delete(self, entries: Sequence[Entry], drop: Callable[[Entry], Path | None]) -> list[Entry]:
        """Delete what `drop` returns a path of, some at a time, and return which.

        If the disk fails, entries whose deletion had begun are absent all the same.
        """
        deleted: list[Entry] = []
        for start in range(0, len(entries), ENTRIES_AT_ONCE):
            doomed: dict[Entry, Path] = {}
            try:
                for entry in entries[start : start + ENTRIES_AT_ONCE]:
                    path = drop(entry)
                    if path is not None:
                        doomed[entry] = path
            finally:
                deleted += doomed
                await self._unlink(doomed)
        return deleted

    async def _unlink(self, doomed: Mapping[Entry, Path]) -> None:
        """Delete the files of entries in a thread; new ones of the same names wait for that."""
        partials = [entry.name for entry in doomed if entry.kind is ContentKind.PARTIAL]
        content = [
            (entry.kind, Digest.parse(entry.name))
            for entry in doomed
            if entry.kind is not ContentKind.PARTIAL
        ]
        unlinking = self._threads.run(disk.unlink_all, list(doomed.values()))
        await self._contents.removals.run(
            content, shield(unlinking, lambda _: self._partials.deleted(partials))
        )

    def _drop_idle(self, entry: Entry) -> Path | None:
        """Drop an entry and return its path; None if it is absent, busy, hosted or was used since."""
        if entry.kind is ContentKind.PARTIAL:
            return self._partials.begin_to_delete(entry.name)
        digest = Digest.parse(entry.name)
        if self.is_busy(entry) or not self._contents.was_idle_for(entry.kind, digest, entry.idle_seconds):
            return None
        return self._drop_unlinked(entry)

    def _drop_unlinked(self, entry: Entry) -> Path | None:
        digest = Digest.parse(entry.name)
        row = self._contents.get(entry.kind, digest)
        if row is None or self._contents.is_hosted(entry.kind, digest):
            return None
        self._contents.drop(entry.kind, digest)
        return self._layout.content(entry.kind, digest, is_hosted=row.is_hosted)
