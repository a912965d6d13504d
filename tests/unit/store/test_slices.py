"""Large files are copied and hashed in many short calls."""

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.store.hashed_file import HASH_SLICE_BYTES
from mirrord.store.slices import COPY_SLICE_BYTES, copy_content, is_content
from mirrord.store.threads import DiskTimeout
from tests.fakes.threads import InlineThreads

BODY = os.urandom(3 * COPY_SLICE_BYTES + 1)


class SlicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.source, self.target, self.scratch = (
            self.folder / name for name in ("source", "a/b/t", "scratch")
        )
        self.source.write_bytes(BODY)
        self.threads = InlineThreads()

    def copy(self) -> "Deferred[bool]":
        copying = copy_content(self.threads, self.source, self.target, Digest.of(BODY), self.scratch)
        return Deferred.fromCoroutine(copying)

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def test_a_copy(self) -> None:
        """A copy is whole, and no call reads more than a slice."""
        self.assertTrue(self.successResultOf(self.copy()))
        self.assertEqual(BODY, self.target.read_bytes())
        self.assertFalse(self.scratch.exists())
        self.assertEqual(5, self.threads.called.count("_read_slice"))

    def test_damaged_and_missing_files(self) -> None:
        """A copy is made only of bytes that match the digest."""
        self.source.write_bytes(BODY[:-1])
        self.assertFalse(self.successResultOf(self.copy()))
        self.assertEqual([self.source], self.files())
        self.source.unlink()
        self.assertFalse(self.successResultOf(self.copy()))
        self.assertEqual([], self.files())

    def test_a_disk_that_fails(self) -> None:
        """A copy that fails leaves nothing."""
        for function in ("append", "_read_slice", "commit"):
            self.threads.failures[function] = OSError(function)
            self.failureResultOf(self.copy(), OSError)
            self.assertEqual([self.source], self.files(), function)

    def test_a_disk_that_hangs(self) -> None:
        """A copy whose write misses its deadline fails; its file is closed when that has returned."""
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        self.threads.hold("append")
        copying = self.copy()
        self.threads.expire()
        self.failureResultOf(copying, DiskTimeout)
        self.threads.release()
        self.assertEqual(descriptors, len(list(Path("/proc/self/fd").iterdir())))
        self.assertEqual([self.source], self.files())

    def test_hashing(self) -> None:
        """A file is compared with its digest in slices; one that is missing is none."""
        with self.source.open("wb") as file:
            file.truncate(HASH_SLICE_BYTES + 1)
        digest = Digest.of(self.source.read_bytes())
        self.assertTrue(self.is_content(digest))
        self.assertEqual(3, self.threads.called.count("_hash_slice"))
        self.assertFalse(self.is_content(Digest.of(BODY)))
        self.source.unlink()
        self.assertFalse(self.is_content(digest))

    def is_content(self, digest: Digest) -> bool:
        return self.successResultOf(Deferred.fromCoroutine(is_content(self.threads, self.source, digest)))
