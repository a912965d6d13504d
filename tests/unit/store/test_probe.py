"""Tests of the write probe."""

import errno
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.store.probe import INTERVAL_SECONDS, TIMEOUT_SECONDS, WriteProbe
from tests.fakes.threads import InlineThreads


class PendingThreads:
    """Threads whose calls the test completes."""

    def __init__(self) -> None:
        self.calls: list[Deferred[Any]] = []

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        self.calls.append(Deferred())
        return self.calls[-1]


class WriteProbeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = PendingThreads()

    def probe(self) -> WriteProbe:
        threads: Any = self.threads
        probe = WriteProbe(Path("unused"), threads, self.clock)
        probe.start()
        self.addCleanup(probe.stop)
        return probe

    def test_real_file(self) -> None:
        """A missing folder is reported until it is there again."""
        folder = Path(self.mktemp())
        probe = WriteProbe(folder / "probe", InlineThreads(), self.clock)
        probe.start()
        self.addCleanup(probe.stop)
        self.assertIn("No such file", probe.trouble or "")

        folder.mkdir()
        self.clock.advance(INTERVAL_SECONDS)
        self.assertIsNone(probe.trouble)

    def test_full_disk(self) -> None:
        """A full disk is not reported: a restart would not free it."""
        probe = self.probe()
        self.threads.calls[0].errback(OSError(errno.ENOSPC, "No space left on device"))
        self.assertIsNone(probe.trouble)

    def test_hanging_disk(self) -> None:
        """A disk that hangs is reported after a timeout, probed only once meanwhile, until it responds."""
        probe = self.probe()
        self.clock.advance(TIMEOUT_SECONDS)
        self.assertIsNone(probe.trouble)
        self.clock.advance(1)
        self.assertEqual(probe.trouble, "the disk has not responded for 121 s")
        self.assertEqual(len(self.threads.calls), 1)

        self.threads.calls[0].callback(None)
        self.assertIsNone(probe.trouble)
