from collections.abc import Callable, Iterator

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.plan import LOW_WATER, DiskUsage, GCLimits, eviction_order, victims
from mirrord.oci.content import ContentKind, Entry

DAY = 86400.0
LIMITS = GCLimits(max_size=None, min_free=0, unused_for_seconds=30 * DAY, partials_seconds=7 * DAY)


def entry(number: int, size: int, idle_seconds: float, kind: ContentKind = ContentKind.BLOB) -> Entry:
    return Entry(kind=kind, name=str(number), size=size, idle_seconds=idle_seconds)


@st.composite
def stores(draw: st.DrawFn) -> list[Entry]:
    idles = sorted(draw(st.lists(st.floats(0, 60 * DAY), max_size=40)), reverse=True)
    return [
        entry(number, draw(st.integers(0, 1000)), idle, draw(st.sampled_from(ContentKind)))
        for number, idle in enumerate(idles)
    ]


def plan(entries: list[Entry], excess: int, is_busy: Callable[[Entry], bool]) -> list[Entry]:
    partials = [each for each in entries if each.kind is ContentKind.PARTIAL]
    return list(victims(eviction_order(partials, entries, LIMITS), excess, LIMITS, is_busy))


class VictimTests(SynchronousTestCase):
    def names(self, entries: list[Entry], excess: int, busy: str = "") -> list[str]:
        return [each.name for each in plan(entries, excess, lambda each: each.name in busy)]

    def test_no_need(self) -> None:
        """If there is room and nothing is expired, nothing is evicted."""
        self.assertEqual([], self.names([entry(1, 10, 1.0)], 0))

    def test_least_recently_used(self) -> None:
        """As many are evicted as the excess needs, in the order of their last use."""
        entries = [entry(number, 10, 10.0 - number) for number in range(5)]
        self.assertEqual(["0", "1", "2"], self.names(entries, 21))

    def test_busy(self) -> None:
        """A busy entry stays, and another is evicted in its place."""
        entries = [entry(number, 10, 10.0 - number) for number in range(5)]
        self.assertEqual(["1", "3"], self.names(entries, 20, busy="02"))

    def test_expiry(self) -> None:
        """Partials expire after `partials`, content after `unused_for`."""
        entries = [
            entry(1, 10, 30 * DAY),
            entry(2, 10, 8 * DAY),
            entry(3, 10, 8 * DAY, ContentKind.PARTIAL),
            entry(4, 10, 6 * DAY, ContentKind.PARTIAL),
        ]
        self.assertEqual(["3", "1"], self.names(entries, 0))

    def test_no_needless_reads(self) -> None:
        """Planning ends at the first entry that is neither needed nor expired."""
        read = []

        def reading() -> Iterator[Entry]:
            for number in range(1000):
                read.append(number)
                yield entry(number, 10, 1.0)

        self.assertEqual(2, len(list(victims(reading(), 20, LIMITS, lambda _: False))))
        self.assertEqual(3, len(read))

    def test_partials_that_expire_sooner(self) -> None:
        """If partials expire sooner than content, content between the two limits is not read."""
        old = entry(1001, 10, 8 * DAY, ContentKind.PARTIAL)
        read = []

        def reading() -> Iterator[Entry]:
            for number in range(1000):
                read.append(number)
                yield entry(number, 10, 20 * DAY)
            yield old

        order = eviction_order([old], reading(), LIMITS)
        self.assertEqual([old], list(victims(order, 0, LIMITS, lambda _: False)))
        self.assertEqual([0], read)

    def test_partials_that_expire_later(self) -> None:
        """If partials expire later than content, expired content behind a partial is evicted."""
        limits = GCLimits(max_size=None, min_free=0, unused_for_seconds=7 * DAY, partials_seconds=30 * DAY)
        left, old = entry(1, 10, 9 * DAY, ContentKind.PARTIAL), entry(2, 10, 8 * DAY)
        order = eviction_order([left], [left, old], limits)
        self.assertEqual([old], list(victims(order, 0, limits, lambda _: False)))

    @given(stores(), st.integers(-100, 20_000), st.sets(st.integers(0, 40)))
    def test_any_store(self, entries: list[Entry], excess: int, busy: set[int]) -> None:
        """Busy entries stay, enough or everything else is evicted, and nothing before what is older."""
        evicted = plan(entries, excess, lambda each: int(each.name) in busy)
        idle = [each for each in entries if int(each.name) not in busy]

        self.assertTrue(all(each in idle for each in evicted))
        self.assertTrue(sum(each.size for each in evicted) >= excess or len(evicted) == len(idle))
        self.assertEqual(len(evicted), len({each.name for each in evicted}))
        self.assertTrue(all(each in evicted for each in idle if LIMITS.is_expired(each)))
        for number, each in enumerate(idle):
            if each in evicted and not LIMITS.is_expired(each):
                self.assertEqual(
                    idle[: number + 1], [older for older in idle[: number + 1] if older in evicted]
                )
                self.assertLess(sum(older.size for older in idle[:number]), excess)


class DiskUsageTests(SynchronousTestCase):
    limits = GCLimits(max_size=1000, min_free=100, unused_for_seconds=DAY, partials_seconds=DAY)

    def test_reserved(self) -> None:
        """Room that is reserved for another download is not free."""
        half = DiskUsage(total=0, busy=0, reserved=600, free=10_000)
        self.assertLessEqual(half.excess(400, self.limits), 0)
        self.assertEqual(1, half.excess(401, self.limits))

    def test_min_free(self) -> None:
        """`min_free` stays free, whatever `max_size` allows."""
        tight = DiskUsage(total=10, busy=0, reserved=50, free=200)
        self.assertEqual(0, tight.excess(50, self.limits))
        self.assertEqual(1, tight.excess(51, self.limits))
        unbounded = attrs.evolve(self.limits, max_size=None)
        self.assertEqual(1, tight.excess(51, unbounded))

    def test_can_fit(self) -> None:
        """Neither busy nor reserved bytes can be freed."""
        full = DiskUsage(total=1000, busy=300, reserved=200, free=10_000)
        self.assertTrue(full.can_fit(500, self.limits))
        self.assertFalse(full.can_fit(501, self.limits))

    def test_slack(self) -> None:
        """Slack is a little below `max_size`, and a little more than `min_free`."""
        slack = self.limits.with_slack()
        self.assertEqual(51, DiskUsage(total=1001, busy=0, reserved=0, free=10_000).excess(0, slack))
        self.assertEqual(6, DiskUsage(total=0, busy=0, reserved=0, free=99).excess(0, slack))
        self.assertEqual(1000 * LOW_WATER, slack.max_size)
        self.assertIsNone(LIMITS.with_slack().max_size)
