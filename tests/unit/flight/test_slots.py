"""Tests of mirrord/flight/slots.py."""

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.slots import DownloadSlots, Interest, Slot, SlotReader, SlotState

TOTAL, SHARE = 4, 3
OWNERS = (("a", "u"), ("a", "v"), ("b", "u"), ("b", "v"))
"""Clients and upstreams that use all slots, within their shares."""


@attrs.define(eq=False)
class FakeDownload:
    """A download that ends at once when it is parked, or when the test ends it."""

    slots: DownloadSlots
    client: str | None
    upstream: str
    is_slow: bool = False
    slot: Slot = attrs.field(init=False)
    reader: SlotReader = attrs.field(init=False)
    parked: int = 0

    def __attrs_post_init__(self) -> None:
        self.slot = self.slots.request(client=self.client, upstream=self.upstream, park=self.park)
        self.reader = self.slot.enter(Interest.BACKGROUND if self.client is None else Interest.CLIENT)

    def park(self) -> None:
        self.parked += 1
        if not self.is_slow:
            self.slot.release()


class SlotsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.slots = DownloadSlots(TOTAL, SHARE)

    def begin(self, client: str | None = "a", upstream: str = "u", *, is_slow: bool = False) -> FakeDownload:
        return FakeDownload(self.slots, client, upstream, is_slow)

    def abandoned(self, client: str = "a", upstream: str = "u", *, is_slow: bool = False) -> FakeDownload:
        download = self.begin(client, upstream, is_slow=is_slow)
        download.reader.leave()
        return download

    def states(self, *downloads: FakeDownload) -> list[SlotState]:
        return [download.slot.state for download in downloads]

    def fill(self) -> list[FakeDownload]:
        """Use all slots for clients."""
        return [self.begin(client, upstream) for client, upstream in OWNERS]

    def test_free(self) -> None:
        """A slot is granted at once while there are free ones."""
        self.assertEqual([SlotState.GRANTED] * TOTAL, self.states(*self.fill()))

    def test_wait(self) -> None:
        """When all slots are used by clients, another one waits until one of them is released."""
        downloads = self.fill()
        late = self.begin("c", "w")
        granted = late.slot.granted()
        self.assertNoResult(granted)
        self.assertEqual(1, self.slots.waiting)
        downloads[0].slot.release()
        self.assertTrue(self.successResultOf(granted))
        self.assertEqual((0, 0), (self.slots.waiting, self.slots.parked))

    def test_share_of_a_client(self) -> None:
        """One client cannot use all slots."""
        downloads = [self.begin("a", upstream) for upstream in "uvwx"]
        self.assertEqual([*[SlotState.GRANTED] * SHARE, SlotState.WAITING], self.states(*downloads))
        self.assertEqual([SlotState.GRANTED], self.states(self.begin("b", "u")))

    def test_share_of_an_upstream(self) -> None:
        """One upstream cannot use all slots."""
        downloads = [self.begin(client, "u") for client in "abcd"]
        self.assertEqual([*[SlotState.GRANTED] * SHARE, SlotState.WAITING], self.states(*downloads))
        self.assertEqual([SlotState.GRANTED], self.states(self.begin("a", "v")))

    def test_fair_to_clients(self) -> None:
        """The next slot goes to the client with the fewest downloads, not to the one that waits longest."""
        downloads = self.fill()
        greedy, modest = self.begin("a", "w"), self.begin("c", "w")
        downloads[2].slot.release()
        self.assertEqual([SlotState.WAITING, SlotState.GRANTED], self.states(greedy, modest))
        downloads[3].slot.release()
        self.assertEqual([SlotState.GRANTED], self.states(greedy))

    def test_fair_to_upstreams(self) -> None:
        """Of clients with equally many downloads, the one whose upstream has the fewest is next."""
        downloads = self.fill()
        busy, idle = self.begin("c", "u"), self.begin("d", "w")
        downloads[1].slot.release()
        self.assertEqual([SlotState.WAITING, SlotState.GRANTED], self.states(busy, idle))

    def test_first_come(self) -> None:
        """Otherwise the first come is next."""
        downloads = self.fill()
        first, second = self.begin("c", "w"), self.begin("c", "w")
        downloads[0].slot.release()
        self.assertEqual([SlotState.GRANTED, SlotState.WAITING], self.states(first, second))

    def test_parked_without_a_reader(self) -> None:
        """A download without a reader is parked for one that waits; of several, the longest without one."""
        first, second, *_ = downloads = self.fill()
        second.reader.leave()
        first.reader.leave()
        late = self.begin("c", "w")
        self.assertEqual(
            [SlotState.GRANTED, SlotState.RELEASED, SlotState.GRANTED], self.states(first, second, late)
        )
        self.assertEqual([0, 1, 0, 0], [download.parked for download in downloads])
        self.assertEqual(1, self.slots.parked)

    def test_not_parked_without_need(self) -> None:
        """A download without a reader continues while there are free slots."""
        download = self.abandoned()
        self.begin("b", "v")
        self.assertEqual([SlotState.GRANTED], self.states(download))

    def test_parked_when_the_reader_leaves(self) -> None:
        """A download is parked for one that waits already when its last reader leaves."""
        first, *_ = self.fill()
        late = self.begin("c", "w")
        first.reader.leave()
        self.assertEqual([SlotState.RELEASED, SlotState.GRANTED], self.states(first, late))

    def test_background(self) -> None:
        """Background downloads are parked for clients, after those without a reader, and not for others."""
        background, unread = self.begin(None, "u"), self.abandoned("a", "v")
        for name in "bbc":
            self.begin(name, "w")
        self.assertEqual([SlotState.GRANTED, SlotState.RELEASED], self.states(background, unread))
        other = self.begin(None, "y")
        self.assertEqual([SlotState.GRANTED, SlotState.WAITING], self.states(background, other))
        client = self.begin("d", "z")
        self.assertEqual(
            [SlotState.RELEASED, SlotState.GRANTED, SlotState.WAITING],
            self.states(background, client, other),
        )

    def test_parked_for_a_share(self) -> None:
        """If the client of a waiting download has its share, one of its own downloads is parked."""
        foreign = self.abandoned("b", "x")
        own = self.abandoned("a", "u")
        self.begin("a", "v")
        self.begin("a", "w")
        late = self.begin("a", "y")
        self.assertEqual(
            [SlotState.GRANTED, SlotState.RELEASED, SlotState.GRANTED], self.states(foreign, own, late)
        )

    def test_slow_parking(self) -> None:
        """One download is parked for each that waits, and its slot is granted when it has ended."""
        slow = [self.abandoned(client, upstream, is_slow=True) for client, upstream in OWNERS]
        late = [self.begin("c", "w"), self.begin("c", "w")]
        self.assertEqual([1, 1, 0, 0], [download.parked for download in slow])
        self.assertEqual([SlotState.PROMISED] * 2, self.states(*late))
        self.assertTrue(slow[0].slot.is_parking)
        slow[1].slot.release()
        self.assertEqual([SlotState.GRANTED, SlotState.PROMISED], self.states(*late))
        self.assertEqual(1, self.slots.waiting)

    def test_promise_without_a_reader(self) -> None:
        """If the reader of a promised slot leaves, the slot goes to the next that waits."""
        slow = self.abandoned("a", "u", is_slow=True)
        self.begin("b", "v")
        self.begin("b", "w")
        self.begin("d", "v")
        first = self.begin("c", "w")
        first.reader.leave()
        second = self.begin("e", "x")
        self.assertEqual([SlotState.RELEASED, SlotState.PROMISED], self.states(first, second))
        slow.slot.release()
        self.assertEqual(([SlotState.GRANTED], 1), (self.states(second), self.slots.parked))

    def test_wait_without_a_reader(self) -> None:
        """A download whose readers leave while it waits never begins."""
        downloads = self.fill()
        late = self.begin("c", "w")
        granted = late.slot.granted()
        late.reader.leave()
        self.assertFalse(self.successResultOf(granted))
        downloads[0].slot.release()
        self.assertEqual([SlotState.RELEASED], self.states(late))

    def test_second_reader(self) -> None:
        """A client that joins a background download makes it one that clients read, until it leaves."""
        download = self.begin(None)
        reader = download.slot.enter(Interest.CLIENT)
        self.assertEqual((Interest.CLIENT, 2), (download.slot.interest, download.slot.readers))
        reader.leave()
        reader.leave()
        self.assertEqual((Interest.BACKGROUND, 1), (download.slot.interest, download.slot.readers))

    def test_finishing(self) -> None:
        """A download that has all its bytes is not parked, though it has no reader."""
        download = self.abandoned("a", "u")
        download.slot.finish()
        self.begin("b", "v")
        self.begin("b", "v")
        self.begin("c", "w")
        late = self.begin("d", "x")
        self.assertEqual([SlotState.GRANTED, SlotState.WAITING], self.states(download, late))

    def test_parking_for_room(self) -> None:
        """All downloads of one interest are parked on request, which returns when they have ended."""
        slow = self.abandoned("a", "u", is_slow=True)
        quick, read = self.abandoned("b", "v"), self.begin("c", "w")
        parking = Deferred.fromCoroutine(self.slots.park_all(Interest.NONE))
        self.assertEqual([SlotState.RELEASED, SlotState.GRANTED], self.states(quick, read))
        self.assertNoResult(parking)
        slow.slot.release()
        self.assertIsNone(self.successResultOf(parking))

    def test_parking_itself(self) -> None:
        """A download parks itself once; its slot is free when it has ended."""
        download = self.abandoned(is_slow=True)
        download.slot.park()
        download.slot.park()
        released = download.slot.released()
        self.assertEqual((1, True), (download.parked, download.slot.is_parking))
        self.assertNoResult(released)
        download.slot.release()
        download.slot.release()
        self.assertIsNone(self.successResultOf(released))
        self.assertIsNone(self.successResultOf(download.slot.released()))
        self.assertFalse(self.successResultOf(download.slot.granted()))


class SlotsMachine(RuleBasedStateMachine):
    """Downloads that come, lose readers, end and are parked in any order; some take time to park."""

    downloads = Bundle("downloads")

    def __init__(self) -> None:
        super().__init__()
        self.slots = DownloadSlots(TOTAL, SHARE)
        self.begun: list[FakeDownload] = []

    @rule(
        target=downloads,
        client=st.sampled_from([None, "a", "b", "c"]),
        upstream=st.sampled_from(["u", "v"]),
        is_slow=st.booleans(),
    )
    def begin(self, client: str | None, upstream: str, is_slow: bool) -> FakeDownload:
        self.begun.append(FakeDownload(self.slots, client, upstream, is_slow))
        return self.begun[-1]

    @rule(download=downloads)
    def leave(self, download: FakeDownload) -> None:
        download.reader.leave()

    @rule(download=downloads, interest=st.sampled_from([Interest.BACKGROUND, Interest.CLIENT]))
    def join(self, download: FakeDownload, interest: Interest) -> None:
        if not download.slot.is_parking:
            download.slot.enter(interest)

    @rule(download=downloads)
    def end(self, download: FakeDownload) -> None:
        download.slot.release()

    @rule(interest=st.sampled_from(list(Interest)[:2]))
    def park(self, interest: Interest) -> None:
        Deferred.fromCoroutine(self.slots.park_all(interest))

    def of(self, *states: SlotState) -> list[FakeDownload]:
        return [each for each in self.begun if each.slot.state in states]

    @invariant()
    def bounds(self) -> None:
        """The total and the shares are not exceeded."""
        assert len(self.of(SlotState.GRANTED, SlotState.PARKING)) <= TOTAL
        active = self.of(SlotState.GRANTED, SlotState.PROMISED)
        for client in (None, "a", "b", "c"):
            assert sum(each.client == client for each in active) <= SHARE
        for upstream in ("u", "v"):
            assert sum(each.upstream == upstream for each in active) <= SHARE

    @invariant()
    def work_conserving(self) -> None:
        """No slot is promised while one is free, and none waits that could have one."""
        if self.of(SlotState.PROMISED):
            assert len(self.of(SlotState.GRANTED, SlotState.PARKING)) == TOTAL
        active = self.of(SlotState.GRANTED, SlotState.PROMISED)
        for waiting in self.of(SlotState.WAITING):
            assert (
                len(active) == TOTAL
                or sum(each.client == waiting.client for each in active) == SHARE
                or sum(each.upstream == waiting.upstream for each in active) == SHARE
            )

    @invariant()
    def readers(self) -> None:
        """Downloads that wait have a reader, and one that a client reads was not parked."""
        assert all(each.slot.readers for each in self.of(SlotState.WAITING, SlotState.PROMISED))
        assert all(each.slot.interest < Interest.CLIENT for each in self.of(SlotState.PARKING))


SlotsModelTests = SlotsMachine.TestCase
