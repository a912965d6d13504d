"""Free memory is given back once a minute."""

import re
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.heap import Heap, malloc_trim


def resident_kib() -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


class HeapTests(SynchronousTestCase):
    def test_once_a_minute(self) -> None:
        """It is done a minute after the start, and then every minute, until it is stopped."""
        clock, trims = Clock(), list[float]()
        heap = Heap(clock, lambda: trims.append(clock.seconds()))
        heap.start()
        clock.pump([60.0, 60.0])
        heap.stop()
        clock.advance(60.0)
        self.assertEqual(trims, [60.0, 120.0])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_given_back(self) -> None:
        """What lies free between what is in use is ours no more."""
        crowd = [bytes(4096) for _ in range(20_000)]
        kept = crowd[::1000]
        del crowd
        before = resident_kib()
        malloc_trim()
        self.assertEqual(len(kept), 20)
        self.assertLess(resident_kib(), before - 40_000)
