"""The collector: sweeps now and then, and makes room when a download needs it.

Whoever asks for room while another makes some waits for its turn, and then sees what is left; a sweep
takes a turn for each slice, so that nobody waits for all of it. Room that was given is promised to its
download in the store itself, which knows best when the bytes are written or the download has ended; so
there is nothing here to give back, or to forget to.
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
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import DiskUsage, GCLimits, in_order, victims
from mirrord.gc.ports import EvictableContent, Tally
from mirrord.gc.results import MAX_NAMED, EvictedContent, SweepPreview, SweepResult
from mirrord.oci.content import Entry
from mirrord.oci.digest import Digest

SLICE_ENTRIES = 32
"""How many entries go at a time: a millisecond of renames on the reactor, the rest in a thread."""

LEAST_FREE_BYTES = 2 * 1024 * 1024
"""What a stream that is not kept leaves free."""

EMERGENCY_BYTES = 16 * 1024 * 1024
"""What an emergency frees beyond what is needed at once, if there is so much."""


@attrs.define(eq=False)
class Collector:
    """Keeps a store within its limits, and rid of what hosted repositories no longer need.

    `free_bytes` says how much the store's file system has left, `wall_clock` what time it is.
    """

    _shelf: EvictableContent
    limits: GCLimits
    _interval_seconds: float
    _clock: IReactorTime
    _wall_clock: Callable[[], float]
    _free_bytes: Callable[[], int]
    _tally: Tally
    _hosted: HostedSweeper
    last_sweep: SweepResult | None = attrs.field(default=None, init=False)
    _loop: LoopingCall = attrs.field(init=False)
    _one_at_a_time: DeferredLock = attrs.field(factory=DeferredLock, init=False)
    _sweeps: SingleFlight[None, SweepResult] = attrs.field(factory=SingleFlight, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._begin_sweep)
        self._loop.clock = self._clock

    @property
    def trouble(self) -> str | None:
        """That the disk is so full that not even a stream passes through; None where one does."""
        free = self._free_bytes()
        return None if free > LEAST_FREE_BYTES else f"the disk is full: {free} bytes are free"

    def start(self) -> None:
        """Sweep now, and then at every interval, whatever a sweep runs into."""
        self._loop.start(self._interval_seconds)

    def configure(self, limits: GCLimits, interval_seconds: float) -> None:
        """Keep to other limits from now on, and begin a sweep if it is running."""
        self.limits, self._interval_seconds = limits, interval_seconds
        if self._loop.running:
            self._loop.stop()
            self.start()

    async def stop(self) -> None:
        """Sweep no more; a running sweep ends with its slice."""
        self._is_stopped = True
        self._hosted.stop()
        if self._loop.running:
            self._loop.stop()
        if self._sweeps.is_running(None):
            await self._sweep_guarded()

    async def sweep(self) -> SweepResult:
        """Bring the store within its limits, and rid of what is not needed; joins a running sweep.

        Raises:
            OSError: The disk failed.
        """
        return await self._sweeps.run(None, self._sweep)

    async def preview(self) -> SweepPreview:
        """What a sweep would evict now; nothing goes.

        Raises:
            OSError: The disk failed.
        """
        await self._settle()
        shelf, limits = self._shelf, self.limits
        order = in_order(shelf.partials(), shelf.entries(), limits)
        going = victims(order, self._excess(0, limits)(), limits, shelf.is_busy)
        total = EvictedContent()
        named: list[Entry] = []
        while batch := list(islice(going, SLICE_ENTRIES)):
            total += EvictedContent(len(batch), sum(entry.size for entry in batch))
            named += batch[: MAX_NAMED - len(named)]
            await yield_to_reactor(self._clock)
        return SweepPreview(total, tuple(named), await self._hosted.preview(limits))

    async def _sweep(self) -> SweepResult:
        started_at, began = self._wall_clock(), self._clock.seconds()
        evicted = await self._evict(self._excess(0, self.limits), self._one_at_a_time)
        forgotten = await self._forget()
        hosted = await self._hosted.sweep(self.limits)
        self.last_sweep = SweepResult(started_at, self._clock.seconds() - began, evicted, forgotten, hosted)
        return self.last_sweep

    async def make_room(self, size: int, digest: Digest | None = None) -> bool:
        """Whether `size` more bytes fit within the limits, after evicting what may go.

        With the digest of a blob they are promised to its partial, until it is committed, discarded
        or parked. Nothing is evicted for what could not fit anyhow. Without one, what fits now is not
        made to wait for its turn: there is nothing to write down, and a turn may take an fsync.

        Raises:
            OSError: The disk failed.
        """
        if digest is None and self._occupancy().excess(size, self.limits) <= 0:
            return True
        async with self._one_at_a_time:
            if digest is not None:
                self._shelf.reserve(digest, 0)
            if not await self._fit(size, self.limits):
                return False
            if digest is not None:
                self._shelf.reserve(digest, size)
            return True

    async def make_room_for_push(self, size: int) -> bool:
        """Whether `size` more bytes may be pushed, after evicting mirrored content that may go.

        `max_size` is not for them; that `min_free` stays free of the file system is.

        Raises:
            OSError: The disk failed.
        """
        limits = attrs.evolve(self.limits, max_size=None)
        if self._occupancy().excess(size, limits) <= 0:
            return True
        async with self._one_at_a_time:
            return await self._fit(size, limits)

    async def lend_room(self, size: int, digest: Digest) -> bool:
        """Whether the disk can take `size` bytes that will not be kept, after evicting what may go.

        The operator's limits are for what is kept: of a disk that is nearly full already, a stream
        that passes through may take what is left, but for a little that the index needs. What it gets
        nobody else gets, until its partial has ended.

        Raises:
            OSError: The disk failed.
        """
        limits = attrs.evolve(
            self.limits, max_size=None, min_free=min(self.limits.min_free, LEAST_FREE_BYTES)
        )
        async with self._one_at_a_time:
            self._shelf.lend(digest, 0)
            if not await self._fit(size, limits):
                return False
            self._shelf.lend(digest, size)
            return True

    async def free_in_emergency(self, size: int) -> bool:
        """The disk refused `size` bytes: evict what may go, and say whether trying again makes sense.

        What the file system says of its free space is not believed: quotas and reserved blocks are
        not in it.

        Raises:
            OSError: The disk failed.
        """
        async with self._one_at_a_time:
            evicted = await self._evict(lambda: size + EMERGENCY_BYTES, DeferredLock())
        self._log.warn("the disk is full: {size} bytes were evicted", size=evicted.size)
        return evicted.size > 0

    async def _fit(self, size: int, limits: GCLimits) -> bool:
        """Evict what `size` more bytes need; whether they fit then."""
        occupancy = self._occupancy()
        if occupancy.excess(size, limits) > 0 and occupancy.can_fit(size, limits):
            await self._evict(self._excess(size, limits), DeferredLock())
        return self._occupancy().excess(size, limits) <= 0

    def _excess(self, size: int, limits: GCLimits) -> Callable[[], int]:
        """How many bytes are too many for `size` more, whenever one asks; with some slack if any are now."""
        is_too_full = self._occupancy().excess(size, limits) > 0
        goal = limits.with_slack() if is_too_full else limits
        return lambda: self._occupancy().excess(size, goal)

    def _occupancy(self) -> DiskUsage:
        shelf = self._shelf
        return DiskUsage(
            shelf.total_bytes, shelf.busy_bytes, shelf.reserved_bytes, self._free_bytes(), shelf.lent_bytes
        )

    async def _evict(self, excess: Callable[[], int], turn: DeferredLock) -> EvictedContent:
        """Evict what is expired, and as much as is in `excess`: slice by slice, each in its `turn`.

        The excess is looked at anew before each slice, for others make room in between; but no more
        goes than it was at first, for some file systems take half a minute to count what was deleted.
        """
        await self._settle()
        shelf, limits = self._shelf, self.limits
        going, most, total = in_order(shelf.partials(), shelf.entries(), limits), excess(), EvictedContent()
        while not self._is_stopped:
            async with turn:
                left = min(most - total.size, excess())
                batch = list(islice(victims(going, left, limits, shelf.is_busy), SLICE_ENTRIES))
                if not batch:
                    break
                gone = await shelf.evict(batch)
            evicted = EvictedContent(len(gone), sum(entry.size for entry in gone))
            self._tally.evicted(evicted.count, evicted.size)
            total += evicted
            await yield_to_reactor(self._clock)
        return total

    async def _settle(self) -> None:
        try:
            await self._shelf.flush()
        except OSError as error:
            self._log.warn("evicting by an older order of use: {error}", error=str(error))

    async def _forget(self) -> int:
        forgotten = 0
        for count in self._shelf.forget_unused(self.limits.unused_for_seconds):
            forgotten += count
            if self._is_stopped:
                break
            await yield_to_reactor(self._clock)
        return forgotten

    def _begin_sweep(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._sweep_guarded())

    async def _sweep_guarded(self) -> None:
        """Sweep, and let no exception out: it would end the LoopingCall for good, and fill the disk."""
        try:
            await self.sweep()
        except Exception:  # noqa: BLE001
            self._log.failure("the sweep ended early")
