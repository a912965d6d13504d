import gc
import os
import sys
import weakref
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.store.hashed_file import HashedFile, RunningHash
from mirrord.store.threads import DiskTimeout
from tests.fakes.threads import InlineThreads


class MemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        self.fd = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)

    def open(self) -> HashedFile:
        """Open a file whose owner refers to it, as that of uploads does."""
        opened = HashedFile(
            offset=0,
            running=RunningHash("sha256"),
            fd=self.fd,
            threads=InlineThreads(),
            closed=lambda: self.assertTrue(opened.is_closed),
        )
        return opened

    def test_a_written_chunk_is_freed(self) -> None:
        """A chunk is freed when it has been written, without garbage collection."""
        file, chunk = self.open(), bytes(1024)
        references = sys.getrefcount(chunk)
        self.successResultOf(Deferred.fromCoroutine(file.append(chunk)))
        self.assertEqual(references, sys.getrefcount(chunk))
        file.release()

    def test_a_closed_file_is_freed(self) -> None:
        """A file is freed when it has been closed, without garbage collection."""
        file = self.open()
        freed = weakref.ref(file)
        file.release()
        del file
        self.assertIsNone(freed())


class HungDiskTests(SynchronousTestCase):
    """A call misses its deadline, and returns later."""

    def setUp(self) -> None:
        self.threads = InlineThreads()
        self.path = Path(self.mktemp())
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self.closed = 0
        self.file = self.open(self.fd, 0)

    def open(self, fd: int, offset: int) -> HashedFile:
        return HashedFile(
            offset=offset, running=RunningHash("sha256"), fd=fd, threads=self.threads, closed=self.count
        )

    def count(self) -> None:
        self.closed += 1

    def miss(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Let the deadline of a call pass."""
        self.threads.hold()
        waiting = Deferred.fromCoroutine(coroutine)
        self.threads.expire()
        self.failureResultOf(waiting, DiskTimeout)

    def test_the_descriptor_outlives_the_call(self) -> None:
        """A released file is closed when the call that missed its deadline has returned, not before."""
        self.miss(self.file.append(b"x"))
        self.file.release()
        self.assertEqual((0, 0), (os.fstat(self.fd).st_size, self.closed))
        self.threads.release()
        self.assertEqual((b"x", 1), (self.path.read_bytes(), self.closed))
        self.assertRaises(OSError, os.fstat, self.fd)

    def test_a_late_write_counts(self) -> None:
        """A write that succeeds after its deadline is part of the file and of its hash."""
        self.miss(self.file.append(b"x"))
        self.assertEqual(0, self.file.offset)
        self.threads.release()
        self.assertEqual(1, self.file.offset)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(self.file.matches(Digest.of(b"x")))))
        self.file.release()

    def test_a_late_hash_counts(self) -> None:
        """Hashing that ends after its deadline is not repeated, nor mixed with another attempt."""
        os.write(self.fd, b"x")
        file = self.open(os.dup(self.fd), 1)
        self.miss(file.catch_up())
        self.threads.release()
        self.threads.called.clear()
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(file.matches(Digest.of(b"x")))))
        self.assertEqual([], self.threads.called)
        file.release()
        self.file.release()

    def test_a_failed_call_keeps_nothing(self) -> None:
        """A call that fails after its deadline closes the file too, and its error is not reported again."""
        self.threads.failures["append"] = OSError(5, "I/O error")
        self.miss(self.file.append(b"x"))
        self.file.release()
        self.threads.release()
        self.assertEqual((1, 0), (self.closed, self.file.offset))
