"""FakeSpace and the collector keep one contract."""

from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import FreeSpace, GCLimits
from mirrord.observe.metrics import Metrics
from tests.fakes.clock import ImmediateClock
from tests.fakes.space import FakeSpace
from tests.fakes.stores import TemporaryStore
from tests.unit.fakes import contracts


class FakeSpaceTests(contracts.SpaceContract):
    def space(self, free: int, *, has_content: bool = False) -> FakeSpace:
        return FakeSpace(free=free, disk=free, can_evict=has_content)

    pushes = space


class CollectorSpaceTests(contracts.SpaceContract):
    def space(self, free: int, *, has_content: bool = False) -> Collector:
        clock, temporary = ImmediateClock(), TemporaryStore.of(self)
        store = temporary.opened
        if has_content:
            temporary.add_blob(b"old")
        return Collector(
            store=store.eviction,
            limits=GCLimits(max_size=None, min_free=0, unused_for_seconds=1000.0, partials_seconds=1000.0),
            interval_seconds=60.0,
            clock=clock,
            wall_clock=clock.seconds,
            free=lambda: FreeSpace(free),
            metrics=Metrics(),
            hosted=HostedSweeper(store.hosted_gc, clock),
        )

    pushes = space
