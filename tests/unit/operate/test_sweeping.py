import attrs

from mirrord.oci.entry import Entry, Kind
from mirrord.operate.answers import Swept, Victim
from mirrord.operate.sweeping import Sweeper
from tests.unit.operate.case import OperateCase


@attrs.frozen
class Evicted:
    count: int
    size: int


@attrs.frozen
class Done:
    evicted: Evicted
    named: tuple[Entry, ...] = ()


@attrs.define
class FakeCollector:
    sweeps: int = 0

    async def sweep(self) -> Done:
        self.sweeps += 1
        return Done(Evicted(1, 10))

    async def rehearse(self) -> Done:
        return Done(Evicted(2, 20), (Entry(Kind.BLOB, "x", 5, 7.0),))


class SweepingTests(OperateCase):
    def test_sweep(self) -> None:
        """A sweep is carried out; a dry one only names what would go."""
        collector = FakeCollector()
        sweeper = Sweeper(collector)

        dry = self.result(sweeper.sweep(is_dry_run=True))
        self.assertEqual(Swept(True, 2, 20, (Victim(Kind.BLOB, "x", 5, 7.0),)), dry)
        self.assertEqual(0, collector.sweeps)
        self.assertEqual(Swept(False, 1, 10), self.result(sweeper.sweep(is_dry_run=False)))
        self.assertEqual(1, collector.sweeps)
