import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.store import disk
from mirrord.store.disk import PROBE_SECONDS, PROBE_TIMEOUT_SECONDS, StoreLock, WriteProbe
from mirrord.store.layout import Layout
from tests.fakes.threads import InlineThreads

COMMIT = """
import os
from pathlib import Path
from mirrord.store import disk
os.mkdir("work")
fd = os.open("work/name", os.O_RDWR | os.O_CREAT)
disk.commit(fd, Path("work/name"), Path("work/blobs/ab/blob"))
"""


class CommitTests(SynchronousTestCase):
    def test_an_fsync_that_fails_is_final(self) -> None:
        """Whatever the reason of a failed fsync, it is raised as EIO, and the file is not renamed."""
        name, path = Path(self.mktemp()), Path(self.mktemp())
        name.write_bytes(b"x")
        reader, no_file = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, no_file)
        error = self.assertRaises(OSError, disk.commit, no_file, name, path)
        self.assertEqual((errno.EIO, True, False), (error.errno, name.exists(), path.exists()))

    def test_nothing_has_its_name_before_it_is_durable(self) -> None:
        """The system calls are an fsync of the file, the rename, an fsync of the folder, in this order."""
        strace = shutil.which("strace")
        if strace is None:
            self.skipTest("strace is not installed")
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        command = [strace, "-y", "-e", "trace=fsync,rename", sys.executable, "-B", "-c", COMMIT]
        root = str(Path(__file__).parents[3])
        traced = subprocess.run(
            command, cwd=folder, env={"PYTHONPATH": root}, capture_output=True, text=True, check=True
        )
        calls = [line for line in traced.stderr.splitlines() if line.startswith(("fsync", "rename"))]
        self.assertIn("/work/name>", calls[0])
        self.assertTrue(calls[-2].startswith('rename("work/name", "work/blobs/ab/blob")'), calls)
        self.assertIn("/work/blobs/ab>", calls[-1])
        self.assertTrue(any("/work/blobs>" in call for call in calls[1:-2]), calls)


class LinkTests(SynchronousTestCase):
    def test_planted_links(self) -> None:
        """Files of a fixed name are not created or emptied through a link that others may have left."""
        folder = Path(self.mktemp())
        folder.mkdir()
        victim, link = folder / "victim", folder / "lock"
        victim.write_text("mine")
        link.symlink_to(victim)
        self.assertRaises(OSError, StoreLock.acquire, Layout(folder))
        link.rename(folder / "probe")
        probe = WriteProbe(folder / "probe", InlineThreads(), Clock())
        probe.start()
        self.addCleanup(probe.stop)
        self.assertIn("cannot be written", probe.trouble or "")
        (folder / "probe").rename(folder / "scratch")
        self.assertRaises(OSError, disk.write_committed, folder / "scratch", folder / "target", b"new")
        self.assertEqual("mine", victim.read_text())


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
        self.clock.advance(PROBE_SECONDS)
        self.assertIsNone(probe.trouble)

    def test_full_disk(self) -> None:
        """A full disk is not reported: a restart would not free it."""
        probe = self.probe()
        self.threads.calls[0].errback(OSError(errno.ENOSPC, "No space left on device"))
        self.assertIsNone(probe.trouble)

    def test_hanging_disk(self) -> None:
        """A disk that hangs is reported after a timeout, probed only once meanwhile, until it responds."""
        probe = self.probe()
        self.clock.advance(PROBE_TIMEOUT_SECONDS)
        self.assertIsNone(probe.trouble)
        self.clock.advance(1)
        self.assertEqual(probe.trouble, "the disk has not responded for 121 s")
        self.assertEqual(len(self.threads.calls), 1)

        self.threads.calls[0].callback(None)
        self.assertIsNone(probe.trouble)

    def test_missed_deadline(self) -> None:
        """A probe that misses the deadline of its thread is not repeated before it returns."""
        threads = InlineThreads(is_held=True)
        probe = WriteProbe(Path(self.mktemp()), threads, self.clock)
        probe.start()
        self.addCleanup(probe.stop)
        threads.expire()
        self.clock.pump([PROBE_SECONDS] * 3)
        self.assertEqual(["_touch"], threads.called)
        self.assertEqual("the disk has not responded for 180 s", probe.trouble)
        threads.release()
        self.assertIsNone(probe.trouble)
