import errno

from twisted.internet.defer import Deferred

from mirrord.gc.collector import EMERGENCY_BYTES, SLICE_ENTRIES
from mirrord.gc.results import EvictedContent, SweepResult
from tests.unit.gc.cases import DIGEST, MIB, OTHER, CollectorTestCase


class RoomTests(CollectorTestCase):
    def test_room_that_is_there_is_given(self) -> None:
        """Where there is room nothing is evicted."""
        self.fill(50)
        self.assertTrue(self.result(self.collector().make_room(50 * MIB, DIGEST)))
        self.assertEqual(50, len(self.names()))

    def test_room_is_made_first(self) -> None:
        """What was used longest ago makes way before the answer."""
        self.fill(100)
        self.assertTrue(self.result(self.collector().make_room(10 * MIB, DIGEST)))
        self.assertEqual([str(number) for number in range(15, 100)], self.names())
        self.assertEqual((15, 15 * MIB), (self.tally.count, self.tally.size))

    def test_two_downloads_do_not_get_the_same_room(self) -> None:
        """What one download was promised another one does not get."""
        collector = self.collector()
        self.assertTrue(self.result(collector.make_room(60 * MIB, DIGEST)))
        self.assertFalse(self.result(collector.make_room(60 * MIB, OTHER)))
        self.assertTrue(self.result(collector.make_room(40 * MIB, OTHER)))

    def test_asking_again_is_not_asking_for_more(self) -> None:
        """A download that asks a second time has its first promise replaced."""
        collector = self.collector()
        self.assertTrue(self.result(collector.make_room(60 * MIB, DIGEST)))
        self.assertTrue(self.result(collector.make_room(80 * MIB, DIGEST)))
        self.assertEqual(80 * MIB, self.shelf.reserved_bytes)

    def test_two_at_once_take_turns(self) -> None:
        """Of two that ask together only as many are served as there is room for."""
        self.fill(100)
        collector = self.collector()
        both = [Deferred.fromCoroutine(collector.make_room(60 * MIB, digest)) for digest in (DIGEST, OTHER)]
        self.clock.pump([0.0] * 100)
        self.assertEqual([True, False], [self.successResultOf(each) for each in both])

    def test_what_fits_waits_for_no_disk(self) -> None:
        """A manifest for which there is room is not made to wait for the room of a blob."""
        self.fill(90)
        collector, self.shelf.slow_disk = self.collector(), Deferred()
        making = Deferred.fromCoroutine(collector.make_room(20 * MIB, DIGEST))
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(collector.make_room(MIB))))
        waiting = Deferred.fromCoroutine(collector.make_room(11 * MIB))
        self.assertNoResult(waiting)
        self.shelf.slow_disk.callback(None)
        self.clock.pump([0.0] * 10)
        self.assertEqual([True, True], [self.successResultOf(each) for each in (making, waiting)])

    def test_nothing_goes_for_what_cannot_fit(self) -> None:
        """A blob larger than all that may go evicts nothing."""
        self.fill(100)
        self.assertFalse(self.result(self.collector().make_room(101 * MIB, DIGEST)))
        self.shelf.busy = {str(number) for number in range(50)}
        self.assertFalse(self.result(self.collector().make_room(51 * MIB, DIGEST)))
        self.assertEqual(100, len(self.names()))
        self.assertEqual(0, self.shelf.reserved_bytes)

    def test_the_file_system_keeps_its_share(self) -> None:
        """Without `max_size`, `min_free` makes room all the same."""
        self.free = 110 * MIB
        self.fill(100)
        self.assertTrue(self.result(self.collector(None, min_free=8 * MIB).make_room(10 * MIB, DIGEST)))
        self.assertEqual(91, len(self.names()))

    def test_lending_knows_no_limits(self) -> None:
        """What is not kept may take more than the limits allow, as far as the disk reaches."""
        self.free = 300 * MIB
        self.fill(100)
        collector = self.collector(min_free=150 * MIB)
        self.assertTrue(self.result(collector.lend_room(150 * MIB, DIGEST)))
        self.assertEqual(100, len(self.names()))
        self.assertFalse(self.result(collector.lend_room(299 * MIB, DIGEST)))
        self.assertEqual(100, len(self.names()))

    def test_what_is_lent_is_lent_once(self) -> None:
        """Two streams do not get the same free bytes, nor does a download get those of a stream."""
        self.free = 300 * MIB
        collector = self.collector(max_size=250 * MIB)
        self.assertTrue(self.result(collector.lend_room(200 * MIB, DIGEST)))
        self.assertFalse(self.result(collector.lend_room(150 * MIB, OTHER)))
        self.assertFalse(self.result(collector.make_room(150 * MIB, OTHER)))
        self.assertTrue(self.result(collector.make_room(80 * MIB, OTHER)))
        self.assertEqual(200 * MIB, self.shelf.lent_bytes)

    def test_what_is_lent_does_not_count_against_max_size(self) -> None:
        """A stream that is not kept takes nothing of what may be kept."""
        collector = self.collector()
        self.assertTrue(self.result(collector.lend_room(90 * MIB, DIGEST)))
        self.assertTrue(self.result(collector.make_room(90 * MIB, OTHER)))

    def test_lending_evicts(self) -> None:
        """What is not kept makes room on the disk, if that helps."""
        self.free = 110 * MIB
        self.fill(100)
        self.assertTrue(self.result(self.collector(None, min_free=MIB).lend_room(50 * MIB, DIGEST)))
        self.assertEqual(58, len(self.names()))

    def test_what_was_used_lately_stays(self) -> None:
        """The order of use is brought up to date before it is followed."""
        self.fill(100)
        self.shelf.used = {"0", "1"}
        self.assertTrue(self.result(self.collector().make_room(MIB, DIGEST)))
        self.assertEqual(["8", "9"], self.names()[:2])
        self.assertEqual(["0", "1"], self.names()[-2:])

    def test_the_busy_stay(self) -> None:
        """What is read is never evicted."""
        self.fill(100)
        self.shelf.busy = {"0", "1", "2"}
        self.assertTrue(self.result(self.collector().make_room(5 * MIB, DIGEST)))
        self.assertEqual(["0", "1", "2", "13"], self.names()[:4])

    def test_an_emergency_frees_more_than_is_needed(self) -> None:
        """When the disk is full in spite of what it says, the write's bytes and some more are freed."""
        self.fill(100)
        self.assertTrue(self.result(self.collector(None).free_in_emergency(MIB)))
        self.assertEqual(MIB + EMERGENCY_BYTES, self.tally.size)

    def test_an_emergency_without_anything_to_evict_says_so(self) -> None:
        """Trying again makes no sense when nothing went."""
        self.assertFalse(self.result(self.collector(None).free_in_emergency(MIB)))

    def test_an_index_that_cannot_be_written_does_not_hinder(self) -> None:
        """On a full disk the order of use cannot be written; room is made by the order that is known."""
        self.fill(100)
        self.shelf.failures["flush"] = OSError(errno.ENOSPC, "full")
        self.assertTrue(self.result(self.collector(None).free_in_emergency(MIB)))

    def test_full_disk_is_trouble(self) -> None:
        """A disk is in trouble only when not even a stream passes through; that limits are met is none."""
        collector = self.collector(min_free=200 * MIB)
        self.free = 100 * MIB
        self.assertIsNone(collector.trouble)
        self.free = MIB
        self.assertEqual("the disk is full: 1048576 bytes are free", collector.trouble)


class SweepTests(CollectorTestCase):
    def test_a_sweep_ends_below_the_limit(self) -> None:
        """A store that is too large is brought below its limit, and the sweep says what it did."""
        self.fill(120)
        self.shelf.unused = [3, 0, 4]
        collector = self.collector()
        sweep = self.result(collector.sweep())
        self.assertEqual(95, len(self.names()))
        self.assertEqual(SweepResult(5.0, 0.0, EvictedContent(25, 25 * MIB), forgotten=7), sweep)
        self.assertIs(sweep, collector.last_sweep)

    def test_what_is_old_goes(self) -> None:
        """What nobody used for long goes however much room there is."""
        self.fill(3, idle_seconds=1000.0)
        self.fill(3, idle_seconds=999.0)
        self.result(self.collector().sweep())
        self.assertEqual(["3", "4", "5"], self.names())

    def test_others_have_their_turns(self) -> None:
        """A large sweep goes in slices, with a turn of the reactor after each."""
        self.fill(10 * SLICE_ENTRIES)
        seen: list[int] = []

        def other() -> None:
            seen.append(len(self.shelf.slices))
            if len(seen) < 10:
                self.clock.callLater(0, other)

        self.clock.callLater(0, other)
        self.result(self.collector(max_size=0).sweep())
        self.assertEqual(list(range(1, 11)), seen)

    def test_nobody_waits_for_the_end_of_a_sweep(self) -> None:
        """Room is given in the midst of a sweep."""
        self.fill(1000, idle_seconds=1000.0)
        collector = self.collector(max_size=None)
        sweeping = Deferred.fromCoroutine(collector.sweep())
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(collector.make_room(MIB, DIGEST))))
        self.assertNoResult(sweeping)

    def test_a_sweep_sees_what_others_took_away(self) -> None:
        """Room that another made while a sweep ran is not made by the sweep a second time."""
        self.fill(200)
        collector = self.collector()
        sweeping = Deferred.fromCoroutine(collector.sweep())
        self.shelf.held = self.shelf.held[70:]
        self.clock.pump([0.0] * 50)
        self.successResultOf(sweeping)
        self.assertEqual(95, len(self.names()))

    def test_free_space_that_is_counted_late_is_not_made_twice(self) -> None:
        """On a file system that tells of deleted files late no more goes than was too much at first."""
        self.fill(200)
        self.free, self.is_late = 230 * MIB, True
        self.result(self.collector(None, min_free=40 * MIB).sweep())
        self.assertEqual(200 - 13, len(self.names()))

    def test_stopping_ends_the_forgetting(self) -> None:
        """A sweep that is stopped while it forgets ends with its slice."""
        self.shelf.unused = [1] * 100
        collector = self.collector()
        collector.start()
        self.clock.callLater(0, lambda: Deferred.fromCoroutine(collector.stop()))
        self.clock.advance(0)
        self.assertLess(self.shelf.forgotten, 5)

    def test_it_sweeps_again_and_again(self) -> None:
        """It sweeps at the start, then at every interval, until it is stopped."""
        collector = self.collector()
        collector.start()
        for _ in range(3):
            self.fill(120)
            self.clock.pump([60.0] + [0.0] * 50)
            self.assertLess(self.shelf.total_bytes, 100 * MIB)
        self.result(collector.stop())
        self.fill(120)
        self.clock.pump([60.0] * 3)
        self.assertGreater(self.shelf.total_bytes, 100 * MIB)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_no_exception_ends_the_sweeping(self) -> None:
        """After a sweep that failed, in whatever way, the next one is made."""
        collector = self.collector()
        collector.start()
        failures: list[tuple[str, Exception]] = [
            ("evict", OSError(errno.EIO, "bad sector")),
            ("entries", ValueError("unforeseen")),
            ("forget_unused", OSError(errno.EIO, "bad sector")),
        ]
        for name, failure in failures:
            self.fill(120)
            self.shelf.failures[name] = failure
            self.clock.pump([60.0] + [0.0] * 50)
            self.assertEqual(1, len(self.flushLoggedErrors(type(failure))))
        self.clock.pump([60.0] + [0.0] * 50)
        self.assertLess(self.shelf.total_bytes, 100 * MIB)
        self.result(collector.stop())

    def test_stopping_waits_for_the_slice(self) -> None:
        """A sweep that is stopped ends with its slice, and then the stop is done."""
        self.fill(1000)
        collector = self.collector(max_size=0)
        collector.start()
        self.result(collector.stop())
        self.assertEqual([SLICE_ENTRIES], self.shelf.slices)

    def test_rehearsal(self) -> None:
        """A rehearsal names what the next sweep evicts, the first of it, and takes nothing away."""
        self.fill(1100, idle_seconds=2000.0)
        self.fill(10)
        collector = self.collector(max_size=None)

        rehearsal = self.result(collector.preview())

        self.assertEqual(EvictedContent(1100, 1100 * MIB), rehearsal.evicted)
        self.assertEqual([str(number) for number in range(1000)], [entry.name for entry in rehearsal.named])
        self.assertEqual((1110, 0), (len(self.shelf.held), self.tally.count))
        self.assertEqual(rehearsal.evicted, self.result(collector.sweep()).evicted)

    def test_rehearsal_of_making_room(self) -> None:
        """A rehearsal for a store that is too full names as much as the sweep will take."""
        self.fill(110)
        collector = self.collector()

        rehearsal = self.result(collector.preview())

        self.assertEqual(rehearsal.evicted, self.result(collector.sweep()).evicted)
        self.assertEqual(EvictedContent(15, 15 * MIB), rehearsal.evicted)

    def test_joined(self) -> None:
        """Whoever wants a sweep while one runs gets what that one does."""
        self.fill(SLICE_ENTRIES + 1, idle_seconds=2000.0)
        collector = self.collector()
        first = Deferred.fromCoroutine(collector.sweep())
        second = Deferred.fromCoroutine(collector.sweep())
        self.assertNoResult(first)
        self.clock.pump([0.0] * 10)

        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual(SLICE_ENTRIES + 1, self.tally.count)

    def test_stop_waits_for_any_sweep(self) -> None:
        """A sweep that somebody asked for is waited for as well, and ends with its slice."""
        self.fill(SLICE_ENTRIES * 3, idle_seconds=2000.0)
        collector = self.collector()
        sweeping = Deferred.fromCoroutine(collector.sweep())
        stopping = Deferred.fromCoroutine(collector.stop())
        self.assertNoResult(stopping)
        self.clock.pump([0.0] * 3)

        self.successResultOf(stopping)
        self.assertEqual(SLICE_ENTRIES, self.successResultOf(sweeping).evicted.count)
