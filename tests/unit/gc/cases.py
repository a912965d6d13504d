"""A collector over stores in memory and a clock that the test advances."""

from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import UNLIMITED_INODES, FreeSpace, GCLimits
from mirrord.observe.metrics import Metrics
from mirrord.oci.content import ContentKind, Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName

T = TypeVar("T")

MIB = 1024 * 1024
DIGEST, OTHER = Digest.of(b"x"), Digest.of(b"y")


@attrs.define(eq=False)
class FakeStore:
    """Entries in memory; those in `busy` stay. `failures` are raised by the next calls of that name.

    Those in `used` were used since the last flush.
    """

    cached: list[Entry] = attrs.field(factory=list)
    busy: set[str] = attrs.field(factory=set)
    reserved: dict[Digest, int] = attrs.field(factory=dict)
    loans: dict[Digest, int] = attrs.field(factory=dict)
    unused: list[int] = attrs.field(factory=list)
    failures: dict[str, Exception] = attrs.field(factory=dict)
    slices: list[int] = attrs.field(factory=list)
    used: set[str] = attrs.field(factory=set)
    forgotten: int = 0
    slow_disk: Deferred[None] | None = None

    @property
    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.cached)

    @property
    def busy_bytes(self) -> int:
        return sum(entry.size for entry in self.cached if entry.name in self.busy)

    @property
    def reserved_bytes(self) -> int:
        return sum(self.reserved.values())

    def reserve(self, digest: Digest, size: int) -> None:
        self.reserved[digest] = size

    @property
    def lent_bytes(self) -> int:
        return sum(self.loans.values())

    def lend(self, digest: Digest, size: int) -> None:
        self.loans[digest] = size

    def is_busy(self, entry: Entry) -> bool:
        return entry.name in self.busy

    async def flush(self) -> None:
        self._fail("flush")
        if self.slow_disk is not None:
            await self.slow_disk
        self.cached.sort(key=lambda entry: entry.name in self.used)

    def entries(self) -> Iterator[Entry]:
        self._fail("entries")
        yield from list(self.cached)

    def partials(self) -> Iterator[Entry]:
        return (entry for entry in list(self.cached) if entry.kind is ContentKind.PARTIAL)

    async def evict(self, entries: Sequence[Entry]) -> list[Entry]:
        self._fail("evict")
        evicted = [entry for entry in entries if entry in self.cached and entry.name not in self.busy]
        self.slices.append(len(evicted))
        self.cached = [entry for entry in self.cached if entry not in evicted]
        return evicted

    def forget_unused(self, idle_seconds: float) -> Iterator[int]:
        self._fail("forget_unused")
        for count in self.unused:
            self.forgotten += count
            yield count

    def _fail(self, name: str) -> None:
        failure = self.failures.pop(name, None)
        if failure is not None:
            raise failure


@attrs.define(eq=False)
class NoHostedContent:
    """Hosted repositories without content but expired uploads; `failure` is raised by each sweep of them."""

    uploads: list[str] = attrs.field(factory=list)
    failure: Exception | None = None

    def expired_uploads(self, idle_seconds: float) -> list[str]:
        if self.failure is not None:
            raise self.failure
        return list(self.uploads)

    async def remove_uploads(self, names: Sequence[str]) -> int:
        self.uploads = [name for name in self.uploads if name not in names]
        return 0

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        return []

    def manifests(self, repository: RepositoryName) -> Iterator[list[HostedManifest]]:
        return iter(())

    def tags(self, repository: RepositoryName) -> Iterator[list[HostedTag]]:
        return iter(())

    async def apply_plan(self, plan: RetentionPlan, grace_seconds: float) -> tuple[int, int]:
        raise NotImplementedError

    def unreferenced(self, grace_seconds: float) -> Iterator[list[tuple[RepositoryName, Digest]]]:
        return iter(())

    async def unlink(self, blobs: Sequence[tuple[RepositoryName, Digest]], grace_seconds: float) -> int:
        raise NotImplementedError

    def unlinked(self) -> Iterator[list[Entry]]:
        return iter(())

    def mirrored(self, entries: Sequence[Entry]) -> Iterator[set[str]]:
        return iter(())

    async def return_to_cache(self, entries: Sequence[Entry]) -> list[Entry]:
        raise NotImplementedError

    async def remove_quarantined(self) -> int:
        return 0

    async def remove(self, entries: Sequence[Entry]) -> list[Entry]:
        raise NotImplementedError


class CollectorTestCase(SynchronousTestCase):
    """`free` bytes are on the disk when the store is empty; if `is_late`, deleted ones are not free yet."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        self.hosted_content = NoHostedContent()
        self.metrics = Metrics()
        self.free = 1000 * MIB
        self.inodes = UNLIMITED_INODES
        self.hosted_free: FreeSpace | None = None
        self.filled = 0
        self.is_late = False

    def collector(self, max_size: int | None = 100 * MIB, min_free: int = 0) -> Collector:
        return Collector(
            store=self.store,
            limits=GCLimits(
                max_size=max_size, min_free=min_free, unused_for_seconds=1000.0, partials_seconds=100.0
            ),
            interval_seconds=60.0,
            clock=self.clock,
            wall_clock=lambda: 5.0,
            free=lambda: FreeSpace(self.free_bytes(), self.inodes - len(self.store.cached)),
            hosted_free=None if self.hosted_free is None else lambda: self.hosted_free or FreeSpace(0),
            metrics=self.metrics,
            hosted=HostedSweeper(self.hosted_content, self.clock),
        )

    def free_bytes(self) -> int:
        deleted = 0 if self.is_late else self.filled - self.store.total_bytes
        return self.free - self.filled + deleted

    def fill(self, count: int, size: int = MIB, idle_seconds: float = 1.0) -> None:
        first = len(self.store.cached)
        self.filled += count * size
        self.store.cached.extend(
            Entry(kind=ContentKind.BLOB, name=str(first + number), size=size, idle_seconds=idle_seconds)
            for number in range(count)
        )

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        waiting = Deferred.fromCoroutine(coroutine)
        self.clock.pump([0.0] * 500)
        return self.successResultOf(waiting)

    def names(self) -> list[str]:
        return [entry.name for entry in self.store.cached]

    def evictions(self) -> tuple[float | None, float | None]:
        """Return how many entries and bytes the metrics count as evicted."""
        registry = self.metrics.registry
        return (
            registry.get_sample_value("mirrord_evictions_total"),
            registry.get_sample_value("mirrord_evicted_bytes_total"),
        )
