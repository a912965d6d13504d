from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.plan import LOW_WATER, DiskUsage, GCLimits, in_order, victims
from mirrord.oci.content import ContentKind, Entry

DAY = 86400.0
LIMITS = GCLimits(max_size=None, min_free=0, unused_for_seconds=30 * DAY, partials_seconds=7 * DAY)


def entry(number: int, size: int, idle_seconds: float, kind: ContentKind = ContentKind.BLOB) -> Entry:
    return Entry(kind, str(number), size, idle_seconds)


@st.composite
def shelves(draw: st.DrawFn) -> list[Entry]:
    idles = sorted(draw(st.lists(st.floats(0, 60 * DAY), max_size=40)), reverse=True)
    return [
        entry(number, draw(st.integers(0, 1000)), idle, draw(st.sampled_from(ContentKind)))
        for number, idle in enumerate(idles)
    ]


def plan(entries: list[Entry], excess: int, is_busy: Callable[[Entry], bool]) -> list[Entry]:
    leftovers = [each for each in entries if each.kind is ContentKind.PARTIAL]
    return list(victims(in_order(leftovers, entries, LIMITS), excess, LIMITS, is_busy))


class VictimTests(SynchronousTestCase):
    def names(self, entries: list[Entry], excess: int, busy: str = "") -> list[str]:
        return [each.name for each in plan(entries, excess, lambda each: each.name in busy)]

    def test_nothing_goes_without_need(self) -> None:
        """Where there is room and nothing is old, nothing goes."""
        self.assertEqual([], self.names([entry(1, 10, 1.0)], 0))

    def test_the_least_recently_used_goes_first(self) -> None:
        """As many go as the excess asks for, in the order of their last use."""
        entries = [entry(number, 10, 10.0 - number) for number in range(5)]
        self.assertEqual(["0", "1", "2"], self.names(entries, 21))

    def test_the_busy_stay(self) -> None:
        """What is read or written stays, and another goes in its place."""
        entries = [entry(number, 10, 10.0 - number) for number in range(5)]
        self.assertEqual(["1", "3"], self.names(entries, 20, busy="02"))

    def test_each_kind_has_its_age(self) -> None:
        """Leftovers go after `partials`, content after `unused_for`."""
        entries = [
            entry(1, 10, 30 * DAY),
            entry(2, 10, 8 * DAY),
            entry(3, 10, 8 * DAY, ContentKind.PARTIAL),
            entry(4, 10, 6 * DAY, ContentKind.PARTIAL),
        ]
        self.assertEqual(["3", "1"], self.names(entries, 0))

    def test_no_more_is_read_than_it_takes(self) -> None:
        """Planning ends at the first entry that is neither needed nor old."""
        read = []

        def reading() -> Iterator[Entry]:
            for number in range(1000):
                read.append(number)
                yield entry(number, 10, 1.0)

        self.assertEqual(2, len(list(victims(reading(), 20, LIMITS, lambda _: False))))
        self.assertEqual(3, len(read))

    def test_content_is_not_searched_for_leftovers(self) -> None:
        """Where leftovers go sooner than content, content that is older than they may be is not read."""
        old = entry(1001, 10, 8 * DAY, ContentKind.PARTIAL)
        read = []

        def reading() -> Iterator[Entry]:
            for number in range(1000):
                read.append(number)
                yield entry(number, 10, 20 * DAY)
            yield old

        order = in_order([old], reading(), LIMITS)
        self.assertEqual([old], list(victims(order, 0, LIMITS, lambda _: False)))
        self.assertEqual([0], read)

    def test_a_leftover_that_may_be_older_than_content_hides_nothing(self) -> None:
        """Where leftovers stay longer than content, old content behind a young leftover goes."""
        limits = GCLimits(None, 0, unused_for_seconds=7 * DAY, partials_seconds=30 * DAY)
        left, old = entry(1, 10, 9 * DAY, ContentKind.PARTIAL), entry(2, 10, 8 * DAY)
        order = in_order([left], [left, old], limits)
        self.assertEqual([old], list(victims(order, 0, limits, lambda _: False)))

    @given(shelves(), st.integers(-100, 20_000), st.sets(st.integers(0, 40)))
    def test_a_plan_is_right(self, entries: list[Entry], excess: int, busy: set[int]) -> None:
        """The busy stay; enough goes or all that may; the old go; nothing newer goes before what is older."""
        gone = plan(entries, excess, lambda each: int(each.name) in busy)
        idle = [each for each in entries if int(each.name) not in busy]

        self.assertTrue(all(each in idle for each in gone))
        self.assertTrue(sum(each.size for each in gone) >= excess or len(gone) == len(idle))
        self.assertEqual(len(gone), len({each.name for each in gone}))
        self.assertTrue(all(each in gone for each in idle if LIMITS.is_expired(each)))
        for number, each in enumerate(idle):
            if each in gone and not LIMITS.is_expired(each):
                self.assertEqual(idle[: number + 1], [older for older in idle[: number + 1] if older in gone])
                self.assertLess(sum(older.size for older in idle[:number]), excess)


class OccupancyTests(SynchronousTestCase):
    limits = GCLimits(max_size=1000, min_free=100, unused_for_seconds=DAY, partials_seconds=DAY)

    def test_promised_room_is_taken(self) -> None:
        """Room that was promised to another download is not there a second time."""
        half = DiskUsage(total=0, busy=0, promised=600, free=10_000)
        self.assertLessEqual(half.excess(400, self.limits), 0)
        self.assertEqual(1, half.excess(401, self.limits))

    def test_some_of_the_file_system_stays_free(self) -> None:
        """What must stay free is not given away, whatever `max_size` allows."""
        tight = DiskUsage(total=10, busy=0, promised=50, free=200)
        self.assertEqual(0, tight.excess(50, self.limits))
        self.assertEqual(1, tight.excess(51, self.limits))
        unbounded = GCLimits(None, 100, DAY, DAY)
        self.assertEqual(1, tight.excess(51, unbounded))

    def test_what_cannot_fit_is_known_before(self) -> None:
        """Only what can go counts: not the busy, and not what was promised."""
        full = DiskUsage(total=1000, busy=300, promised=200, free=10_000)
        self.assertTrue(full.can_fit(500, self.limits))
        self.assertFalse(full.can_fit(501, self.limits))

    def test_slack_is_a_little_of_each_limit(self) -> None:
        """What makes room goes on to a little below `max_size`, and to a little more than `min_free`."""
        self.assertEqual(51, DiskUsage(1001, 0, 0, 10_000).excess(0, self.limits.with_slack()))
        self.assertEqual(6, DiskUsage(0, 0, 0, 99).excess(0, self.limits.with_slack()))
        self.assertEqual(1000 * LOW_WATER, self.limits.with_slack().max_size)
        self.assertIsNone(LIMITS.with_slack().max_size)
