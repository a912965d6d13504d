import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mirrord.store import threads
from mirrord.store.threads import HUNG_SECONDS, MAX_CALLS, RUN_SECONDS, SYNC_SECONDS, DiskThreads, DiskTimeout

FSYNC_THREADS = 4


class ThreadedClock(Clock):
    """A clock to which threads report; `hear` runs the next report, and waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._reports: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, report: Callable[..., object], *args: Any) -> None:
        self._reports.put(lambda: report(*args))

    def hear(self) -> None:
        self._reports.get(timeout=30)()


class DiskThreadsTests(SynchronousTestCase):
    """Calls that hang until `thaw` is set."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.threads = DiskThreads(self.clock)
        self.thaw = threading.Event()
        self.begun: queue.SimpleQueue[None] = queue.SimpleQueue()
        for pool in self.threads.pools:
            pool.start()
            self.addCleanup(pool.stop)
        self.addCleanup(self.thaw.set)

    def hang(self) -> str:
        self.begun.put(None)
        self.thaw.wait(60)
        return "done"

    def test_results(self) -> None:
        """A result or an exception arrives on the reactor, and its deadline is off."""
        calling = self.threads.run(lambda: threading.current_thread().name)
        self.clock.hear()
        self.assertIn("disk", self.successResultOf(calling))
        failing = self.threads.sync(open, "/nonexistent")
        self.clock.hear()
        self.failureResultOf(failing, FileNotFoundError)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_hung_fsyncs(self) -> None:
        """However many fsyncs hang, reads and writes of the index go on."""
        for _ in range(2 * FSYNC_THREADS):
            self.threads.sync(self.hang)
        reading, indexing = self.threads.run(str), self.threads.index(str)
        self.clock.hear()
        self.clock.hear()
        self.assertEqual(("", ""), (self.successResultOf(reading), self.successResultOf(indexing)))

    def test_a_frozen_disk(self) -> None:
        """However many files are being created in vain, others are read."""
        for _ in range(2 * FSYNC_THREADS):
            self.threads.run(self.hang)
        reading = self.threads.read(str)
        self.clock.hear()
        self.assertEqual("", self.successResultOf(reading))

    def test_deadlines(self) -> None:
        """A caller gets an error at the deadline of its kind of call; the index has none."""
        running, syncing, indexing = (
            call(self.hang) for call in (self.threads.run, self.threads.sync, self.threads.index)
        )
        self.clock.advance(RUN_SECONDS)
        self.failureResultOf(running, DiskTimeout)
        self.assertNoResult(syncing)
        self.clock.advance(SYNC_SECONDS)
        error = self.failureResultOf(syncing, DiskTimeout).value
        self.assertIn("the disk has not completed an fsync in 120 s", str(error))
        self.assertNoResult(indexing)

    def test_late_results(self) -> None:
        """A call that missed its deadline reports its end to whoever asks for it."""
        calling = self.threads.run(self.hang)
        self.clock.advance(RUN_SECONDS)
        ended = self.failureResultOf(calling, DiskTimeout).value.ended()
        self.assertNoResult(ended)
        self.thaw.set()
        self.clock.hear()
        self.assertEqual("done", self.successResultOf(ended))

    def test_cancelled_callers(self) -> None:
        """A caller that is cancelled hears nothing, and its shield still reports the end of the call."""
        results: list[object] = []
        waiting = threads.shield(self.threads.run(self.hang), results.append)
        waiting.cancel()
        self.flushLoggedErrors()
        self.assertIsInstance(waiting.result, Failure)
        waiting.addErrback(lambda _: None)
        self.clock.advance(RUN_SECONDS)
        self.assertEqual([], results)
        self.thaw.set()
        self.clock.hear()
        self.assertEqual(["done"], results)

    def test_bounds(self) -> None:
        """With too many calls waiting the next is refused at once, but a descriptor is closed in any case."""
        for _ in range(MAX_CALLS):
            self.threads.run(self.hang)
        self.failureResultOf(self.threads.run(str), OSError)
        fd = os.open("/dev/null", os.O_RDONLY)
        self.threads.close(fd)
        self.thaw.set()
        for _ in range(MAX_CALLS + 1):
            self.clock.hear()
        self.assertRaises(OSError, os.fstat, fd)

    def test_problem(self) -> None:
        """An operation that runs for too long is a problem until it ends; waiting for a thread is none."""
        for _ in range(FSYNC_THREADS + 1):
            self.threads.sync(self.hang)
        for _ in range(FSYNC_THREADS):
            self.begun.get(timeout=30)
        self.clock.advance(HUNG_SECONDS - 1)
        self.assertIsNone(self.threads.problem)
        self.clock.advance(1)
        self.assertEqual("the disk has not completed an fsync in 30 s", self.threads.problem)
        self.thaw.set()
        for _ in range(FSYNC_THREADS + 1):
            self.clock.hear()
        self.assertIsNone(self.threads.problem)

    def test_stopping(self) -> None:
        """A pool with a hung thread is stopped at once, and its threads do not keep the process."""
        self.threads.sync(self.hang)
        self.begun.get(timeout=30)
        (fsync,) = (pool for pool in self.threads.pools if pool.threads)
        fsync.stop()
        self.assertEqual([True], [thread.daemon for thread in fsync.threads])
