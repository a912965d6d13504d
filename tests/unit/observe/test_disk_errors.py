import errno
import os
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.disk_errors import INTERVAL_SECONDS, DiskErrorLog


class DiskErrorLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.errors = DiskErrorLog(self.clock)
        self.lines: list[str] = []
        observer: Any = lambda event: self.lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def report(self, number: int) -> None:
        self.errors.report(OSError(number, os.strerror(number)), "request failed: /v2/")

    def test_one_line_for_many(self) -> None:
        """Of 512 errors of one cause one is logged, and another a minute later, with their number."""
        for _ in range(512):
            self.report(errno.EIO)
        self.report(errno.ENOSPC)
        eio = "request failed: /v2/: Input/output error"
        full = "request failed: /v2/: No space left on device"
        self.assertEqual([eio, full], self.lines)
        self.clock.advance(INTERVAL_SECONDS)
        self.report(errno.EIO)
        self.report(errno.EIO)
        self.assertEqual([eio, full, f"{eio}; 511 more errors since the last line"], self.lines)

    def test_bounds(self) -> None:
        """However many causes there are, the memory of them is bounded."""
        for number in range(1000):
            self.errors.report(OSError(1, f"cause {number}"), "")
        self.assertLessEqual(len(self.errors._causes), 64)
