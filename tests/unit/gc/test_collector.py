import errno
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from mirrord.gc.collector import EMERGENCY_BYTES, ENTRIES_PER_SLICE, LEAST_INODES, SweepResult
from mirrord.gc.hosted import EvictedContent, HostedSweepResult
from mirrord.gc.plan import MIN_INODES, FreeSpace
from tests.unit.gc.cases import DIGEST, MIB, OTHER, CollectorTestCase


class RoomTests(CollectorTestCase):
    def test_free_room(self) -> None:
        """If there is room, nothing is evicted."""
        self.fill(50)
        self.assertTrue(self.result(self.collector().make_room(50 * MIB, DIGEST)))
        self.assertEqual(50, len(self.names()))

    def test_eviction(self) -> None:
        """The least recently used entries are evicted before the request is granted."""
        self.fill(100)
        self.assertTrue(self.result(self.collector().make_room(10 * MIB, DIGEST)))
        self.assertEqual([str(number) for number in range(15, 100)], self.names())
        self.assertEqual((15, 15 * MIB), self.evictions())

    def test_two_downloads_do_not_get_the_same_room(self) -> None:
        """Room that is reserved for one download is not given to another."""
        collector = self.collector()
        self.assertTrue(self.result(collector.make_room(60 * MIB, DIGEST)))
        self.assertFalse(self.result(collector.make_room(60 * MIB, OTHER)))
        self.assertTrue(self.result(collector.make_room(40 * MIB, OTHER)))

    def test_repeated_request(self) -> None:
        """A second request of the same download replaces its reservation."""
        collector = self.collector()
        self.assertTrue(self.result(collector.make_room(60 * MIB, DIGEST)))
        self.assertTrue(self.result(collector.make_room(80 * MIB, DIGEST)))
        self.assertEqual(80 * MIB, self.store.reserved_bytes)

    def test_two_at_once(self) -> None:
        """Of two simultaneous requests, only as many are granted as there is room for."""
        self.fill(100)
        collector = self.collector()
        both = [Deferred.fromCoroutine(collector.make_room(60 * MIB, digest)) for digest in (DIGEST, OTHER)]
        self.clock.pump([0.0] * 100)
        self.assertEqual([True, False], [self.successResultOf(each) for each in both])

    def test_no_wait_without_need(self) -> None:
        """A manifest for which there is room does not wait for the room of a blob."""
        self.fill(90)
        collector, self.store.slow_disk = self.collector(), Deferred()
        making = Deferred.fromCoroutine(collector.make_room(20 * MIB, DIGEST))
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(collector.make_room(MIB))))
        waiting = Deferred.fromCoroutine(collector.make_room(11 * MIB))
        self.assertNoResult(waiting)
        self.store.slow_disk.callback(None)
        self.clock.pump([0.0] * 10)
        self.assertEqual([True, True], [self.successResultOf(each) for each in (making, waiting)])

    def test_too_large(self) -> None:
        """A blob larger than everything evictable evicts nothing."""
        self.fill(100)
        self.assertFalse(self.result(self.collector().make_room(101 * MIB, DIGEST)))
        self.store.busy = {str(number) for number in range(50)}
        self.assertFalse(self.result(self.collector().make_room(51 * MIB, DIGEST)))
        self.assertEqual(100, len(self.names()))
        self.assertEqual(0, self.store.reserved_bytes)

    def test_min_free(self) -> None:
        """Without `max_size`, content is evicted to keep `min_free`."""
        self.free = 110 * MIB
        self.fill(100)
        self.assertTrue(self.result(self.collector(None, min_free=8 * MIB).make_room(10 * MIB, DIGEST)))
        self.assertEqual(91, len(self.names()))

    def test_lending_beyond_the_limits(self) -> None:
        """A stream that is not kept may exceed the limits, up to the size of the disk."""
        self.free = 300 * MIB
        self.fill(100)
        collector = self.collector(min_free=150 * MIB)
        self.assertTrue(self.result(collector.make_room(150 * MIB, DIGEST, is_kept=False)))
        self.assertEqual(100, len(self.names()))
        self.assertFalse(self.result(collector.make_room(299 * MIB, DIGEST, is_kept=False)))
        self.assertEqual(100, len(self.names()))

    def test_lent_room_is_reserved(self) -> None:
        """Room lent to a stream is given neither to another stream nor to a download."""
        self.free = 300 * MIB
        collector = self.collector(max_size=250 * MIB)
        self.assertTrue(self.result(collector.make_room(200 * MIB, DIGEST, is_kept=False)))
        self.assertFalse(self.result(collector.make_room(150 * MIB, OTHER, is_kept=False)))
        self.assertFalse(self.result(collector.make_room(150 * MIB, OTHER)))
        self.assertTrue(self.result(collector.make_room(80 * MIB, OTHER)))
        self.assertEqual(200 * MIB, self.store.lent_bytes)

    def test_lent_room_and_max_size(self) -> None:
        """A stream that is not kept does not count towards `max_size`."""
        collector = self.collector()
        self.assertTrue(self.result(collector.make_room(90 * MIB, DIGEST, is_kept=False)))
        self.assertTrue(self.result(collector.make_room(90 * MIB, OTHER)))

    def test_lending_evicts(self) -> None:
        """A stream that is not kept evicts content if that helps."""
        self.free = 110 * MIB
        self.fill(100)
        self.assertTrue(
            self.result(self.collector(None, min_free=MIB).make_room(50 * MIB, DIGEST, is_kept=False))
        )
        self.assertEqual(58, len(self.names()))

    def test_recently_used(self) -> None:
        """Access times are flushed before entries are evicted in their order."""
        self.fill(100)
        self.store.used = {"0", "1"}
        self.assertTrue(self.result(self.collector().make_room(MIB, DIGEST)))
        self.assertEqual(["8", "9"], self.names()[:2])
        self.assertEqual(["0", "1"], self.names()[-2:])

    def test_busy(self) -> None:
        """An entry that is being read is never evicted."""
        self.fill(100)
        self.store.busy = {"0", "1", "2"}
        self.assertTrue(self.result(self.collector().make_room(5 * MIB, DIGEST)))
        self.assertEqual(["0", "1", "2", "13"], self.names()[:4])

    def test_emergency(self) -> None:
        """If a write fails on a disk that reports free space, its bytes and some more are freed."""
        self.fill(100)
        self.assertTrue(self.result(self.collector(None).free_in_emergency(MIB)))
        self.assertEqual(MIB + EMERGENCY_BYTES, self.evictions()[1])

    def test_emergency_in_an_empty_store(self) -> None:
        """A retry makes no sense if nothing was evicted."""
        self.assertFalse(self.result(self.collector(None).free_in_emergency(MIB)))

    def test_unwritable_index(self) -> None:
        """If access times cannot be written on a full disk, entries are evicted in the known order."""
        self.fill(100)
        self.store.failures["flush"] = OSError(errno.ENOSPC, "full")
        self.assertTrue(self.result(self.collector(None).free_in_emergency(MIB)))

    def test_full_disk(self) -> None:
        """A disk is a problem only if not even a stream passes through, not if the limits are reached."""
        collector = self.collector(min_free=200 * MIB)
        self.free = 100 * MIB
        self.assertIsNone(collector.problem)
        self.free = MIB
        self.assertEqual("the disk is full: 1048576 bytes are free", collector.problem)

    def test_no_inodes(self) -> None:
        """Without inodes nothing is kept or pushed, and everything passes through, which has spare files."""
        collector = self.collector(None)
        self.inodes = MIN_INODES - 1
        self.assertFalse(self.result(collector.make_room(MIB, DIGEST)))
        self.assertFalse(self.result(collector.make_room_for_push(MIB)))
        self.assertTrue(self.result(collector.make_room(MIB, DIGEST, is_kept=False)))
        self.assertIsNone(collector.problem)
        self.inodes = LEAST_INODES
        self.assertEqual("the disk is full: 8 inodes are free", collector.problem)
        self.inodes = 0
        self.assertTrue(self.result(collector.make_room(MIB, DIGEST, is_kept=False)))

    def test_inodes_are_made_free(self) -> None:
        """As many files are evicted as inodes are missing, and no more."""
        self.fill(100, size=4096)
        self.inodes = 100 + MIN_INODES - 10
        self.assertTrue(self.result(self.collector(None).make_room(MIB, DIGEST)))
        self.assertLessEqual(100 - len(self.names()), 10 + ENTRIES_PER_SLICE)

    def test_large_files_are_not_all_evicted_for_inodes(self) -> None:
        """Where others take the inodes, a pull evicts little in vain."""
        self.fill(100, size=10 * MIB)
        self.inodes = 100
        self.assertFalse(self.result(self.collector(None).make_room(MIB, DIGEST)))
        self.assertGreaterEqual(len(self.names()), 90)


class PushRoomTests(CollectorTestCase):
    def test_max_size(self) -> None:
        """A push may exceed `max_size`, and evicts nothing while the disk has room."""
        self.fill(90)
        self.assertTrue(self.result(self.collector().make_room_for_push(500 * MIB)))
        self.assertEqual(90, len(self.names()))

    def test_eviction(self) -> None:
        """If less than `min_free` would be left, mirrored content is evicted first."""
        self.fill(90)
        collector = self.collector(min_free=100 * MIB)
        self.assertTrue(self.result(collector.make_room_for_push(850 * MIB)))
        self.assertLess(len(self.names()), 60)

    def test_min_free(self) -> None:
        """A push that would leave less than `min_free` even then is rejected, and nothing is evicted."""
        self.fill(90)
        self.assertFalse(self.result(self.collector(min_free=100 * MIB).make_room_for_push(950 * MIB)))
        self.assertEqual(90, len(self.names()))

    def test_another_file_system(self) -> None:
        """On a file system of their own, pushes have what `min_free` leaves of it, whatever the cache has."""
        self.fill(90)
        self.free, self.hosted_free = 100 * MIB, FreeSpace(150 * MIB)
        collector = self.collector(min_free=100 * MIB)
        self.assertTrue(self.result(collector.make_room_for_push(50 * MIB)))
        self.assertFalse(self.result(collector.make_room_for_push(51 * MIB)))
        self.assertEqual(90, len(self.names()))
        self.hosted_free = FreeSpace(1000 * MIB, MIN_INODES - 1)
        self.assertFalse(self.result(collector.make_room_for_push(MIB)))

    def test_pulls_while_there_is_no_room_for_pushes(self) -> None:
        """A full file system of hosted repositories is a problem of its own name; pulls are stored."""
        self.hosted_free = FreeSpace(0)
        collector = self.collector()
        self.assertTrue(self.result(collector.make_room(MIB, DIGEST)))
        self.assertEqual("the disk of hosted repositories is full: 0 bytes are free", collector.problem)
        self.hosted_free = FreeSpace(1000 * MIB, 0)
        self.assertEqual("the disk of hosted repositories is full: 0 inodes are free", collector.problem)
        self.hosted_free = FreeSpace(1000 * MIB)
        self.assertIsNone(collector.problem)


class SweepTests(CollectorTestCase):
    def test_a_sweep_ends_below_the_limit(self) -> None:
        """A store that is too large is brought below its limit, and the result says what was evicted."""
        self.fill(120)
        self.store.unused = [3, 0, 4]
        collector = self.collector()
        sweep = self.result(collector.sweep())
        self.assertEqual(95, len(self.names()))
        self.assertEqual(
            SweepResult(
                started_at=5.0,
                seconds=0.0,
                evicted=EvictedContent(25, 25 * MIB),
                forgotten=7,
                hosted=HostedSweepResult(),
            ),
            sweep,
        )
        self.assertIs(sweep, collector.last_sweep)

    def test_expired(self) -> None:
        """Content that was unused for too long is evicted even if there is room."""
        self.fill(3, idle_seconds=1000.0)
        self.fill(3, idle_seconds=999.0)
        self.result(self.collector().sweep())
        self.assertEqual(["3", "4", "5"], self.names())

    def test_slices(self) -> None:
        """A large sweep yields to the reactor after each slice."""
        self.fill(10 * ENTRIES_PER_SLICE)
        counts: list[int] = []

        def other() -> None:
            counts.append(len(self.store.slices))
            if len(counts) < 10:
                self.clock.callLater(0, other)

        self.clock.callLater(0, other)
        self.result(self.collector(max_size=0).sweep())
        self.assertEqual(list(range(1, 11)), counts)

    def test_room_during_a_sweep(self) -> None:
        """A request for room is granted in the middle of a sweep."""
        self.fill(1000, idle_seconds=1000.0)
        collector = self.collector(max_size=None)
        sweeping = Deferred.fromCoroutine(collector.sweep())
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(collector.make_room(MIB, DIGEST))))
        self.assertNoResult(sweeping)

    def test_concurrent_removal(self) -> None:
        """A sweep does not make room that was made by something else while it ran."""
        self.fill(200)
        collector = self.collector()
        sweeping = Deferred.fromCoroutine(collector.sweep())
        self.store.cached = self.store.cached[70:]
        self.clock.pump([0.0] * 50)
        self.successResultOf(sweeping)
        self.assertEqual(95, len(self.names()))

    def test_free_space_reported_late(self) -> None:
        """If a file system reports freed space late, no more is evicted than was in excess at first."""
        self.fill(200)
        self.free, self.is_late = 230 * MIB, True
        self.result(self.collector(None, min_free=40 * MIB).sweep())
        self.assertEqual(200 - 13, len(self.names()))

    def test_stop_while_forgetting(self) -> None:
        """A sweep that is stopped while it deletes links ends after its slice."""
        self.store.unused = [1] * 100
        collector = self.collector()
        collector.start()
        self.clock.callLater(0, lambda: Deferred.fromCoroutine(collector.stop()))
        self.clock.advance(0)
        self.assertLess(self.store.forgotten, 5)

    def test_intervals(self) -> None:
        """A sweep runs at the start and then at every interval, until the collector is stopped."""
        collector = self.collector()
        collector.start()
        for _ in range(3):
            self.fill(120)
            self.clock.pump([60.0] + [0.0] * 50)
            self.assertLess(self.store.total_bytes, 100 * MIB)
        self.result(collector.stop())
        self.fill(120)
        self.clock.pump([60.0] * 3)
        self.assertGreater(self.store.total_bytes, 100 * MIB)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_failed_sweep(self) -> None:
        """After a sweep that failed for any reason, the next one runs."""
        collector = self.collector()
        collector.start()
        failures: list[tuple[str, Exception]] = [
            ("evict", OSError(errno.EIO, "bad sector")),
            ("entries", ValueError("unforecounts")),
            ("forget_unused", OSError(errno.EIO, "bad sector")),
        ]
        lines = self.logged()
        for name, failure in failures:
            self.fill(120)
            self.store.failures[name] = failure
            self.clock.pump([60.0] + [0.0] * 50)
        self.assertEqual(1, len(self.flushLoggedErrors()))
        self.assertEqual(["sweep failed: bad sector", "sweep failed", "sweep failed: bad sector"], lines)
        self.clock.pump([60.0] + [0.0] * 50)
        self.assertLess(self.store.total_bytes, 100 * MIB)
        self.result(collector.stop())

    def test_many_failed_sweeps(self) -> None:
        """Sweeps that fail with the same error of the disk are one line a minute, without a traceback."""
        lines, collector = self.logged(), self.collector()
        collector.configure(collector.limits, 1.0)
        collector.start()
        for _ in range(50):
            self.store.failures["forget_unused"] = OSError(errno.EIO, "bad sector")
            self.clock.pump([1.0] + [0.0] * 10)
        self.assertEqual(["sweep failed: bad sector"], lines)
        self.result(collector.stop())

    def logged(self) -> list[str]:
        """Return the lines that are logged from now on."""
        lines: list[str] = []
        observer: Any = lambda event: lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return lines

    def test_failed_sweep_of_hosted_repositories(self) -> None:
        """If hosted repositories cannot be swept, mirrored content has been evicted already."""
        self.fill(120)
        self.hosted_content.failure = OSError(errno.ENOSPC, "full")
        collector = self.collector()
        collector.start()
        self.clock.pump([0.0] * 100)
        self.assertLess(self.store.total_bytes, 100 * MIB)
        self.assertIsNone(collector.last_sweep)

    def test_hosted_repositories(self) -> None:
        """A sweep includes hosted repositories, unless the collector is stopped before."""
        self.fill(1, idle_seconds=2000.0)
        self.hosted_content.uploads = ["old"]
        stopped = self.collector()
        stopped.start()
        self.result(stopped.stop())
        self.assertEqual(["old"], self.hosted_content.uploads)
        self.assertEqual(HostedSweepResult(uploads=1), self.result(self.collector().sweep()).hosted)
        self.assertEqual([], self.hosted_content.uploads)

    def test_stop_waits_for_the_slice(self) -> None:
        """Stopping waits for a running sweep, which ends after its slice."""
        self.fill(1000)
        collector = self.collector(max_size=0)
        collector.start()
        self.result(collector.stop())
        self.assertEqual([ENTRIES_PER_SLICE], self.store.slices)

    def test_preview(self) -> None:
        """A preview counts what the next sweep evicts, lists the first of it, and evicts nothing."""
        self.fill(1100, idle_seconds=2000.0)
        self.fill(10)
        collector = self.collector(max_size=None)

        preview = self.result(collector.preview())

        self.assertEqual(EvictedContent(1100, 1100 * MIB), preview.evicted)
        self.assertEqual([str(number) for number in range(1000)], [entry.name for entry in preview.victims])
        self.assertEqual((1110, (0, 0)), (len(self.store.cached), self.evictions()))
        self.assertEqual(preview.evicted, self.result(collector.sweep()).evicted)

    def test_preview_of_a_full_store(self) -> None:
        """A preview of a store that is too full lists as much as the sweep evicts."""
        self.fill(110)
        collector = self.collector()

        preview = self.result(collector.preview())

        self.assertEqual(preview.evicted, self.result(collector.sweep()).evicted)
        self.assertEqual(EvictedContent(15, 15 * MIB), preview.evicted)

    def test_joined(self) -> None:
        """A sweep requested while one runs shares its result."""
        self.fill(ENTRIES_PER_SLICE + 1, idle_seconds=2000.0)
        collector = self.collector()
        first = Deferred.fromCoroutine(collector.sweep())
        second = Deferred.fromCoroutine(collector.sweep())
        self.assertNoResult(first)
        self.clock.pump([0.0] * 10)

        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual(ENTRIES_PER_SLICE + 1, self.evictions()[0])

    def test_stop_waits_for_any_sweep(self) -> None:
        """Stopping also waits for a sweep requested by the operator, which ends after its slice."""
        self.fill(ENTRIES_PER_SLICE * 3, idle_seconds=2000.0)
        collector = self.collector()
        sweeping = Deferred.fromCoroutine(collector.sweep())
        stopping = Deferred.fromCoroutine(collector.stop())
        self.assertNoResult(stopping)
        self.clock.pump([0.0] * 3)

        self.successResultOf(stopping)
        self.assertEqual(ENTRIES_PER_SLICE, self.successResultOf(sweeping).evicted.count)
