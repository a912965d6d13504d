"""Tests of mirrored/cache_writer.py and of full disks in mirrored/fetch.py."""

import errno
import os
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher

from mirrord.oci.errors import (
    Unavailable,
)
from tests.unit.mirrored.cases import CONTENT, DownloadCase


class CacheWriterTests(DownloadCase):
    """Downloads to a disk that is full, or fails."""

    def test_no_room(self) -> None:
        """A blob for which the cache has no room is served and not stored."""
        self.space.free = 100
        result = self.open_result()
        self.finish()

        self.assertEqual(200, result.blob.readable)
        self.assertEqual(CONTENT, os.pread(result.blob.fd, 200, 0))
        self.assertFalse(self.store.has(self.digest))
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=200", str(result.cache))

    def test_no_room_on_the_disk(self) -> None:
        """A blob that does not fit on the disk even temporarily is unavailable before the headers."""
        self.space.free = self.space.disk = 100

        self.failure(Unavailable)
        self.assertTrue(self.upstream.bodies[0].is_aborted)

    def test_endless_blob(self) -> None:
        """A blob of unknown size grows only as far as there is room."""
        self.upstream.reports_sizes = False
        self.space.free = 100
        waiting = self.begin_open()
        for _ in range(3):
            self.upstream.bodies[0].send(50)

        self.failureResultOf(waiting, Unavailable)
        self.assertTrue(self.upstream.bodies[0].is_aborted)

    def test_emergency_without_storing(self) -> None:
        """A full disk ends a download that is not stored, and nothing is evicted for it."""
        self.space.free = 100
        self.threads.failures["append"] = OSError(errno.ENOSPC, "full")
        end = self.grown(self.open(), 0)
        self.finish()

        self.failureResultOf(end, Unavailable)
        self.assertEqual(0, self.space.emergencies)

    def test_emergency(self) -> None:
        """If the disk becomes full, content is evicted and the download continues."""
        self.threads.failures["append"] = OSError(errno.ENOSPC, "full")
        self.open()
        self.finish()

        self.assertEqual(1, self.space.emergencies)
        self.assert_committed()

    def test_bug(self) -> None:
        """An unforeseen failure of a download is logged, and the next client resumes it."""
        blob = self.open()
        self.upstream.bodies[0].send(50)
        end = self.grown(blob, 50)
        self.threads.failures["append"] = RuntimeError("unforeseen")
        self.upstream.bodies[0].send(50)
        self.failureResultOf(end, Unavailable)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual(CONTENT[:50], self.store.partial(self.digest))

        self.open()
        self.finish()
        self.assert_committed()

    def test_commit_retried(self) -> None:
        """A commit for which the disk has no room is retried after evictions."""
        self.threads.failures["commit"] = OSError(errno.ENOSPC, "full")
        self.open()
        self.finish()

        self.assertEqual((1, 2), (self.space.emergencies, self.threads.called.count("commit")))
        self.assert_committed()

    def test_commit_failed(self) -> None:
        """After a failed fsync the blob has been served, the commit is not retried, and nothing is left."""
        self.threads.failures["commit"] = OSError(errno.EIO, "fsync failed")
        blob = self.open()
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual((0, 1), (self.space.emergencies, self.threads.called.count("commit")))
        self.assert_absent()

    def test_full_disk(self) -> None:
        """If nothing can be evicted, a full disk ends the download and nothing is left."""
        self.space.can_evict = False
        self.threads.failures["append"] = OSError(errno.ENOSPC, "full")
        blob = self.open()
        end = self.grown(blob, 0)
        self.finish()

        self.failureResultOf(end, Unavailable)
        self.assert_absent()

    def test_many_failures(self) -> None:
        """Downloads that a failing disk ends are one line of the log, however many there are."""
        lines: list[str] = []
        observer: Any = lambda event: lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for number in range(20):
            self.threads.failures["append" if number < 10 else "commit"] = OSError(errno.EIO, "bad sector")
            self.open()
            self.finish()
        self.assertEqual([f"cannot write {self.digest}: bad sector"], lines)
