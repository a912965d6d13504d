"""Tests of mirrord/observe/access_log.py."""

import errno
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.access_log import CLIENT_LEFT, AccessLog, AccessRecord, append
from tests.fakes.logged import Logged
from tests.fakes.threads import InlineThreads

PULL = AccessRecord(
    client="10.0.0.7",
    at=1_795_233_600.9,
    method="GET",
    target="/v2/app/manifests/1",
    version="HTTP/1.1",
    status=200,
    sent_bytes=527,
    agent="docker/27",
)
LINE = '10.0.0.7 - - [21/Nov/2026:04:00:00 +0000] "GET /v2/app/manifests/1 HTTP/1.1" 200 527 "-" "docker/27"'


class AccessRecordTests(SynchronousTestCase):
    """The line of a request."""

    def test_combined(self) -> None:
        """A line is in the combined format."""
        self.assertEqual(LINE, str(PULL))
        left = attrs.evolve(PULL, status=CLIENT_LEFT, sent_bytes=0, referrer="http://x/", agent="")
        self.assertTrue(str(left).endswith('HTTP/1.1" 499 0 "http://x/" "-"'))

    def test_no_forged_lines(self) -> None:
        """Text from a client can end neither a quoted text nor a line, and is cut if it is long."""
        evil = 'x" 200 1\n10.0.0.1 \x1b[2J\\é'
        escaped = "x\\x22 200 1\\x0A10.0.0.1 \\x1B[2J\\x5C\\xC3\\xA9"
        line = str(attrs.evolve(PULL, method=evil, agent=evil))
        self.assertIn(f'"{escaped} /v2/app/manifests/1 HTTP/1.1"', line)
        self.assertTrue(line.endswith(f'"{escaped}"'), line)
        self.assertTrue(line.isascii())
        self.assertLess(len(str(attrs.evolve(PULL, target="/" * 60_000, agent="a" * 60_000))), 2300)

    def test_no_secrets(self) -> None:
        """Of a query only a plain `ns` is logged, and of an absolute target only the path."""
        for target, shown in (
            ("/v2/x?ns=quay.io&token=canary", "/v2/x?ns=quay.io"),
            ("/v2/x?token=canary", "/v2/x"),
            ("/v2/x?ns=a%22b", "/v2/x"),
            ("/v2/x?ns=a&ns=canary", "/v2/x"),
            ("http://me:canary@mirror/v2/?ns=quay.io", "/v2/?ns=quay.io"),
            ("1HTTPS://me:canary@mirror/v2/", "1/v2/"),
        ):
            self.assertIn(f'"GET {shown} HTTP/1.1"', str(attrs.evolve(PULL, target=target)))

    def test_long_target(self) -> None:
        """The time for a line does not grow with the square of the target's length."""
        began = time.process_time()
        str(attrs.evolve(PULL, target="/v2/" + "x" * 200_000))
        self.assertLess(time.process_time() - began, 5)


class AccessLogTests(SynchronousTestCase):
    """A log over a real file, with a clock and inline threads."""

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "access.log"
        self.clock, self.threads = Clock(), InlineThreads()
        self.log = AccessLog(self.clock, self.threads.run, self.path)

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def test_batches(self) -> None:
        """Lines are written together, in a thread, a second after the first of them."""
        self.log.add(PULL)
        self.clock.advance(0.9)
        self.log.add(PULL)
        self.assertEqual([], self.lines())
        self.clock.advance(0.1)
        self.assertEqual([LINE, LINE], self.lines())
        self.assertEqual(["append"], self.threads.called)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_renamed(self) -> None:
        """After the file is renamed, the next lines go into a new one."""
        self.log.add(PULL)
        self.clock.advance(1)
        self.path.rename(self.path.with_suffix(".1"))
        self.log.add(PULL)
        self.clock.advance(1)
        self.assertEqual([LINE], self.lines())

    def test_other_path(self) -> None:
        """The path can be changed and removed at any time."""
        self.log.path = self.path.with_name("other")
        self.log.add(PULL)
        self.clock.advance(1)
        self.assertTrue(self.log.path.exists())
        self.log.add(PULL)
        self.log.path = None
        self.log.add(PULL)
        self.clock.advance(1)
        self.assertEqual(([], []), (self.lines(), self.clock.getDelayedCalls()))

    def test_slow_disk(self) -> None:
        """While a batch is written the next one gathers; the excess is dropped and counted."""
        self.threads.hold()
        long = attrs.evolve(PULL, agent="a" * 1000)
        self.log.add(PULL)
        self.clock.advance(1)
        for _ in range(2000):
            self.log.add(long)
        self.clock.advance(10)
        self.assertEqual(["append"], self.threads.called)
        self.assertGreater(self.log.dropped, 500)

        self.threads.release()
        self.clock.advance(1)
        self.assertEqual(2001, len(self.lines()) + self.log.dropped)

    def test_failing(self) -> None:
        """A file that cannot be written is logged once, its lines are counted, and it is retried."""
        logged = Logged.during(self, "mirrord.observe.access_log")
        for error in (PermissionError(13, "Permission denied"), OSError(28, "No space left"), None):
            if error is not None:
                self.threads.failures["append"] = error
            self.log.add(PULL)
            self.clock.advance(1)
        self.assertEqual((2, [LINE]), (self.log.dropped, self.lines()))
        self.assertEqual([f"cannot write access log {self.path}: Permission denied"], logged.messages)

    def test_pipe(self) -> None:
        """Writing to a pipe never blocks, without a reader or without room."""
        pipe = self.path.with_name("pipe")
        os.mkfifo(pipe)
        failed: list[OSError] = []

        def try_to(batch: bytes) -> None:
            try:
                append(pipe, batch)
            except OSError as error:
                failed.append(error)

        for batch in (b"x", b"x" * (1 << 20)):
            trying = threading.Thread(target=try_to, args=(batch,), daemon=True)
            trying.start()
            trying.join(5)
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            self.addCleanup(os.close, reader)

        self.assertEqual([errno.ENXIO, errno.EAGAIN], [error.errno for error in failed])

    def test_start(self) -> None:
        """A file that cannot be written is logged at the start."""
        logged = Logged.during(self, "mirrord.observe.access_log")
        self.log.start()
        self.assertEqual([], self.lines())
        self.log.path = self.path / "no folder" / "access.log"
        self.log.start()
        self.assertEqual([f"cannot write access log {self.log.path}: Not a directory"], logged.messages)

    def test_stop(self) -> None:
        """Stopping writes all pending lines, also behind a batch that is being written."""
        self.threads.hold()
        self.log.add(PULL)
        self.clock.advance(1)
        self.log.add(PULL)
        stopped = self.log.stop()
        self.assertNoResult(stopped)
        self.threads.release()
        self.successResultOf(stopped)
        self.assertEqual([LINE, LINE], self.lines())
        self.successResultOf(self.log.stop())
        self.assertEqual([], self.clock.getDelayedCalls())
