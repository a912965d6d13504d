"""The store as the collector sees it. What is on it, what may go, and taking it away."""

import heapq
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.blobs import BlobStore
from mirrord.store.cache import BodyCache
from mirrord.store.contents import Contents
from mirrord.store.database import Database
from mirrord.store.disk import Threads
from mirrord.store.index import Index
from mirrord.store.layout import Layout, footprint
from mirrord.store.unfinished import PartialStore


@attrs.define(eq=False)
class EvictionStore:
    """Entries by least recent use, and room that was promised."""

    _layout: Layout
    _database: Database
    _contents: Contents
    _index: Index
    _blobs: BlobStore
    _partials: PartialStore
    _cache: BodyCache
    _threads: Threads
    _numbers: Iterator[int] = attrs.field(factory=count, init=False)

    @property
    def total_bytes(self) -> int:
        """What mirrored blobs and manifests, and partials, take of the disk."""
        return self._contents.mirrored.bytes + self._partials.live_bytes + self._partials.left_bytes

    @property
    def total_entries(self) -> int:
        """How many mirrored blobs and manifests there are."""
        return self._contents.mirrored.entries

    @property
    def busy_bytes(self) -> int:
        """What of `total_bytes` cannot go now: blobs that are read, partials that are written."""
        return self._blobs.pinned_bytes + self._partials.live_bytes

    @property
    def reserved_bytes(self) -> int:
        """What running downloads were promised and will still write."""
        return self._partials.promised_bytes

    def reserve(self, digest: Digest, size: int) -> None:
        """Count `size` more bytes as promised, until the partial of `digest` has written them or ended.

        What the same digest was promised before is replaced; 0 takes it back.
        """
        self._partials.promise(digest, size)

    @property
    def lent_bytes(self) -> int:
        """What streams that are not kept were lent and will still write."""
        return self._partials.lent_bytes

    def lend(self, digest: Digest, size: int) -> None:
        """The same as `promise`, for a partial that will not be kept."""
        self._partials.lend(digest, size)

    def is_busy(self, entry: Entry) -> bool:
        """Whether this entry cannot go now."""
        return entry.kind is ContentKind.BLOB and self._blobs.is_pinned(Digest.parse(entry.name))

    async def flush(self) -> None:
        """Bring the order of `entries` up to date.

        Raises:
            OSError: The disk refused; `entries` leaves out what was used since the last time.
        """
        await self._database.flush()

    def entries(self) -> Iterator[Entry]:
        """All that may go, what was used longest ago first; read page by page, as far as one iterates."""
        content = (
            Entry(ContentKind(row.kind), row.digest, footprint(row.size), self._contents.idle_seconds(row))
            for row in self._contents.least_recently_used()
        )
        return heapq.merge(content, self.partials(), key=lambda entry: -entry.idle_seconds)

    def partials(self) -> Iterator[Entry]:
        """Those of `entries` that unfinished downloads left."""
        now = self._database.now()
        for left in self._partials.leftovers():
            yield Entry(ContentKind.PARTIAL, left.name, footprint(left.size), now - left.since)

    async def evict(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take entries away, those that are not busy, and answer which; they are absent at once.

        What was used since its entry was read stays: a plan may be some slices old. A few at a time:
        their files are renamed here and deleted in a thread, so that whoever writes one of them anew in
        the meantime does not lose it.

        Raises:
            OSError: The disk refused; what had begun to go is absent all the same.
        """
        evicted: list[Entry] = []
        doomed: list[Path] = []
        try:
            for entry in entries:
                path = self._take(entry)
                if path is not None:
                    evicted.append(entry)
                    doomed.extend(self._clear_away(path))
        finally:
            await self._threads.run(disk.unlink_all, doomed)
        return evicted

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Take content away, whoever used it lately; the caller knows that nobody is linked to it.

        What somebody reads is read to its end: their descriptor has it.

        Raises:
            OSError: The disk refused; what had begun to go is absent all the same.
        """
        doomed: list[Path] = []
        try:
            for entry in entries:
                digest = Digest.parse(entry.name)
                doomed.extend(self._clear_away(self._drop(entry.kind, digest)))
        finally:
            await self._threads.run(disk.unlink_all, doomed)

    def forget_unused(self, idle_seconds: float) -> Iterator[int]:
        """Forget links and tags that nobody used for so long: one small slice an item, how many went."""
        return self._index.forget_unused(idle_seconds)

    def _take(self, entry: Entry) -> Path | None:
        """The path of what is absent from now on; None where it is absent, busy, hosted or used lately."""
        if entry.kind is ContentKind.PARTIAL:
            return self._partials.take(entry.name)
        digest = Digest.parse(entry.name)
        if self.is_busy(entry) or not self._contents.was_idle_for(entry.kind, digest, entry.idle_seconds):
            return None
        return None if self._contents.is_hosted(entry.kind, digest) else self._drop(entry.kind, digest)

    def _drop(self, kind: ContentKind, digest: Digest) -> Path:
        self._contents.drop(kind, digest)
        self._cache.drop(kind, digest)
        return self._layout.content(kind, digest)

    def _clear_away(self, path: Path) -> Iterator[Path]:
        """Free a path; where even a rename needs room on a full disk, the file is deleted at once."""
        gone = self._layout.scratch / f"gone-{next(self._numbers)}"
        try:
            path.rename(gone)
        except FileNotFoundError:
            return
        except OSError:
            path.unlink(missing_ok=True)
            return
        yield gone
