"""The collector: sweeps at intervals, and makes room when a download or a push needs it.

Requests for room are served one after another, each with what the ones before have left; a sweep takes the
lock for one slice at a time, so that no request waits for all of it. Room that was made is reserved for its
download in the store itself, which knows when the bytes are written or the download has ended; so nothing
has to be released here, or can be forgotten.
"""

from collections.abc import Callable
from itertools import islice

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mirrord.flight.cooperate import yield_to_reactor
from mirrord.flight.single import SingleFlight
from mirrord.gc.hosted import (
    MAX_NAMED,
    EvictedContent,
    HostedSweeper,
    HostedSweepPreview,
    HostedSweepResult,
)
from mirrord.gc.plan import DiskUsage, FreeSpace, GCLimits, eviction_order, victims
from mirrord.gc.ports import EvictableContent
from mirrord.observe.disk_errors import DiskErrorLog
from mirrord.observe.metrics import Metrics
from mirrord.oci.content import Entry
from mirrord.oci.digest import Digest

ENTRIES_PER_SLICE = 32
"""Files renamed in one slice, about 1 ms on the reactor; the deletions run in a thread."""

LEAST_FREE_BYTES = 2 * 1024 * 1024
"""The space that a stream that is not stored leaves free."""

LEAST_INODES = 8
"""With so few inodes the disk is full, though streams that are not stored have spare files."""

EMERGENCY_BYTES = 16 * 1024 * 1024
"""The space that an emergency frees beyond what is needed at once, if there is so much."""


@attrs.frozen(kw_only=True)
class SweepResult:
    """The result of a sweep. `started_at` is wall clock; `forgotten` counts links and tags of the mirror."""

    started_at: float
    seconds: float
    evicted: EvictedContent
    forgotten: int
    hosted: HostedSweepResult


@attrs.frozen
class SweepPreview:
    """The totals that a sweep would evict, and the first MAX_NAMED entries."""

    evicted: EvictedContent
    victims: tuple[Entry, ...]
    hosted: HostedSweepPreview


@attrs.define(eq=False, kw_only=True)
class Collector:
    """Keeps a store within its limits, and removes what hosted repositories no longer need.

    `free` returns what the store's file system has left, `hosted_free` what that of hosted repositories has
    if it is another one, `wall_clock` the time.
    """

    _store: EvictableContent
    limits: GCLimits
    _interval_seconds: float
    _clock: IReactorTime
    _wall_clock: Callable[[], float]
    _free: Callable[[], FreeSpace]
    _hosted_free: Callable[[], FreeSpace] | None = None
    _metrics: Metrics
    _hosted: HostedSweeper
    last_sweep: SweepResult | None = attrs.field(default=None, init=False)
    _loop: LoopingCall = attrs.field(init=False)
    _lock: DeferredLock = attrs.field(factory=DeferredLock, init=False)
    _sweeps: SingleFlight[None, SweepResult] = attrs.field(factory=SingleFlight, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _disk_errors: DiskErrorLog = attrs.field(
        default=attrs.Factory(lambda self: DiskErrorLog(self._clock), takes_self=True), init=False
    )
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._sweep_guarded()))
        self._loop.clock = self._clock

    @property
    def problem(self) -> str | None:
        """Return the problem of a disk that has no room for streams that are not kept, or no inodes."""
        problem = _problem("the disk", self._free())
        if problem is not None or self._hosted_free is None:
            return problem
        return _problem("the disk of hosted repositories", self._hosted_free())

    def start(self) -> None:
        """Sweep now and at every interval, even if a sweep fails."""
        self._loop.start(self._interval_seconds)

    def configure(self, limits: GCLimits, interval_seconds: float) -> None:
        """Apply other limits from now on, and start a sweep if sweeps are running."""
        self.limits, self._interval_seconds = limits, interval_seconds
        if self._loop.running:
            self._loop.stop()
            self.start()

    async def stop(self) -> None:
        """Stop sweeping; a running sweep ends after its current slice."""
        self._is_stopped = True
        self._hosted.stop()
        if self._loop.running:
            self._loop.stop()
        if self._sweeps.is_running(None):
            await self._sweep_guarded()

    async def sweep(self) -> SweepResult:
        """Bring the store within its limits and remove what is not needed; joins a running sweep.

        Raises:
            OSError: The disk failed.
        """
        return await self._sweeps.run(None, self._sweep)

    async def preview(self) -> SweepPreview:
        """Return what a sweep would remove now, and remove nothing.

        Raises:
            OSError: The disk failed.
        """
        await self._flush()
        store, limits = self._store, self.limits
        order = eviction_order(store.partials(), store.entries(), limits)
        evictable = victims(order, self._excess(0, limits)(), limits, store.is_busy)
        total = EvictedContent()
        named: list[Entry] = []
        while batch := list(islice(evictable, ENTRIES_PER_SLICE)):
            total += EvictedContent.of(batch)
            named += batch[: MAX_NAMED - len(named)]
            await yield_to_reactor(self._clock)
        return SweepPreview(total, tuple(named), await self._hosted.preview(limits))

    async def _sweep(self) -> SweepResult:
        started_at, began = self._wall_clock(), self._clock.seconds()
        evicted = await self._evict(self._excess(0, self.limits), self._lock)
        forgotten = await self._forget_unused()
        hosted = await self._hosted.sweep(self.limits)
        self.last_sweep = SweepResult(
            started_at=started_at,
            seconds=self._clock.seconds() - began,
            evicted=evicted,
            forgotten=forgotten,
            hosted=hosted,
        )
        return self.last_sweep

    def can_fit(self, size: int, digest: Digest, *, is_kept: bool) -> bool:
        """Return whether `size` more bytes of a blob would fit if all were evicted that may be evicted.

        This cancels what was reserved for the blob.
        """
        self._reserve(digest, 0, is_kept=is_kept)
        return self._usage().can_fit(size, self._limits(is_kept=is_kept))

    async def make_room(
        self, size: int, digest: Digest | None = None, *, is_kept: bool = True, may_evict: bool = True
    ) -> bool:
        """Evict what `size` more bytes need if `may_evict`, and return whether they fit.

        With the digest of a blob they are reserved for its partial, until it has written them or has ended.
        Nothing is evicted for what could not fit anyway. Without a digest, what fits now does not wait for
        other requests: there is nothing to reserve, and each of them may wait for an fsync.

        Raises:
            OSError: The disk failed.
        """
        limits = self._limits(is_kept=is_kept)
        if digest is None and self._usage().excess(size, limits) <= 0:
            return True
        async with self._lock:
            if digest is not None:
                self._reserve(digest, 0, is_kept=is_kept)
            if not await self._fit(size, limits, may_evict=may_evict):
                return False
            if digest is not None:
                self._reserve(digest, size, is_kept=is_kept)
            return True

    async def make_room_for_push(self, size: int) -> bool:
        """Evict mirrored content for a push of `size` bytes, and return whether they fit.

        `max_size` does not apply to them, but `min_free` of the file system stays free. If theirs is another
        one than that of mirrored content, there is nothing to evict.

        Raises:
            OSError: The disk failed.
        """
        if self._hosted_free is not None:
            free = self._hosted_free()
            return free.bytes - size >= self.limits.min_free and free.inodes >= self.limits.min_inodes
        limits = attrs.evolve(self.limits, max_size=None)
        if self._usage().excess(size, limits) <= 0:
            return True
        async with self._lock:
            return await self._fit(size, limits)

    async def free_in_emergency(self, size: int) -> bool:
        """Evict content after the disk refused `size` bytes, and return whether a retry makes sense.

        The free space that the file system reports is ignored: quotas and reserved blocks are not in it.

        Raises:
            OSError: The disk failed.
        """
        async with self._lock:
            evicted = await self._evict(lambda: size + EMERGENCY_BYTES, DeferredLock())
        self._log.warn("disk full: evicted {size} bytes", size=evicted.size)
        return evicted.size > 0

    def _limits(self, *, is_kept: bool) -> GCLimits:
        """Return the limits of what is kept, or of a stream that is not.

        The operator's limits apply to what is kept: on a disk that is nearly full already, a stream that
        passes through may use what is left, except a little that the index needs. The store has spare files
        for the case that there are no inodes.
        """
        if is_kept:
            return self.limits
        min_free = min(self.limits.min_free, LEAST_FREE_BYTES)
        return attrs.evolve(self.limits, max_size=None, min_free=min_free, min_inodes=0)

    def _reserve(self, digest: Digest, size: int, *, is_kept: bool) -> None:
        (self._store.reserve if is_kept else self._store.lend)(digest, size)

    async def _fit(self, size: int, limits: GCLimits, *, may_evict: bool = True) -> bool:
        """Evict what `size` more bytes need, and return whether they fit then."""
        usage = self._usage()
        if usage.excess(size, limits) <= 0:
            return True
        if not may_evict or not usage.can_fit(size, limits):
            return False
        await self._evict(self._excess(size, limits), DeferredLock())
        return self._usage().excess(size, limits) <= 0

    def _excess(self, size: int, limits: GCLimits) -> Callable[[], int]:
        """Return a function that computes how many bytes to evict for `size` more; with slack if any."""
        is_too_full = self._usage().excess(size, limits) > 0
        goal = limits.with_slack() if is_too_full else limits
        return lambda: self._usage().excess(size, goal)

    def _usage(self) -> DiskUsage:
        store, free = self._store, self._free()
        return DiskUsage(
            total=store.total_bytes,
            busy=store.busy_bytes,
            reserved=store.reserved_bytes,
            free=free.bytes,
            lent=store.lent_bytes,
            inodes=free.inodes,
        )

    async def _evict(self, excess: Callable[[], int], lock: DeferredLock) -> EvictedContent:
        """Evict what is expired, and as much as the `excess`, slice by slice, each under the `lock`.

        The excess is computed anew before each slice, because others make room in between; but no more is
        evicted than it was at first, because some file systems take half a minute to count what was deleted.
        """
        await self._flush()
        store, limits = self._store, self.limits
        order = eviction_order(store.partials(), store.entries(), limits)
        most, total = excess(), EvictedContent()
        while not self._is_stopped:
            async with lock:
                remaining = min(most - total.size, excess())
                batch = list(islice(victims(order, remaining, limits, store.is_busy), ENTRIES_PER_SLICE))
                if not batch:
                    break
                evicted = EvictedContent.of(await store.evict(batch))
            self._metrics.evicted(evicted.count, evicted.size)
            total += evicted
            await yield_to_reactor(self._clock)
        return total

    async def _flush(self) -> None:
        try:
            await self._store.flush()
        except OSError as error:
            self._disk_errors.report(error, "evicting without the most recent access times")

    async def _forget_unused(self) -> int:
        forgotten = 0
        for count in self._store.forget_unused(self.limits.unused_for_seconds):
            forgotten += count
            if self._is_stopped:
                break
            await yield_to_reactor(self._clock)
        return forgotten

    async def _sweep_guarded(self) -> None:
        """Sweep, and log any exception: it would end the LoopingCall for good, and fill the disk."""
        try:
            await self.sweep()
        except OSError as error:
            self._disk_errors.report(error, "sweep failed")
        except Exception:  # noqa: BLE001
            self._log.failure("sweep failed")


def _problem(disk: str, free: FreeSpace) -> str | None:
    if free.bytes <= LEAST_FREE_BYTES:
        return f"{disk} is full: {free.bytes} bytes are free"
    return f"{disk} is full: {free.inodes} inodes are free" if free.inodes <= LEAST_INODES else None
