"""Tests of mirrord/observe/periodic.py."""

import re
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.periodic import HeapTrimmer, ReactorLatency, malloc_trim


class ReactorLatencyTests(SynchronousTestCase):
    """A reactor that is late."""

    def setUp(self) -> None:
        self.clock, self.time, self.late = Clock(), 100.0, list[float]()
        self.latency = ReactorLatency(self.clock, lambda: self.time, self.late.append)

    def iterate(self, seconds: float) -> None:
        self.time += seconds
        self.clock.advance(1)

    def test_late(self) -> None:
        """The delay is what a call came later than after a second, and never negative."""
        self.latency.start()
        for seconds in (1.0, 1.25, 1.0, 0.5):
            self.iterate(seconds)
        self.assertEqual([0.0, 0.25, 0.0, 0.0], self.late)

    def test_stop(self) -> None:
        """Stopping cancels the delayed call, and may be repeated."""
        self.latency.start()
        self.latency.stop()
        self.latency.stop()
        self.assertEqual([], self.clock.getDelayedCalls())


def resident_kib() -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


class HeapTrimmerTests(SynchronousTestCase):
    def test_once_a_minute(self) -> None:
        """Memory is trimmed a minute after the start, and then every minute, until it is stopped."""
        clock, trims = Clock(), list[float]()
        trimmer = HeapTrimmer(clock, lambda: trims.append(clock.seconds()))
        trimmer.start()
        clock.pump([60.0, 60.0])
        trimmer.stop()
        clock.advance(60.0)
        self.assertEqual(trims, [60.0, 120.0])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_malloc_trim(self) -> None:
        """Free memory between allocations is returned to the system."""
        crowd = [bytes(4096) for _ in range(20_000)]
        kept = crowd[::1000]
        del crowd
        before = resident_kib()
        malloc_trim()
        self.assertEqual(len(kept), 20)
        self.assertLess(resident_kib(), before - 40_000)
