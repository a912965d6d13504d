"""Tests of mirrored/cache_writer.py, by what happens to a blob."""

import errno
import os

from mirrord.oci.errors import (
    Unavailable,
)
from tests.unit.mirrored.cases import CONTENT, PullBlobs


class DiskTests(PullBlobs):
    """The disk refuses."""

    def test_cannot_fit(self) -> None:
        """What cannot fit reaches its client and is not kept."""
        self.room.free = 100
        result = self.open_result()
        self.finish()

        self.assertEqual(200, result.blob.readable)
        self.assertEqual(CONTENT, os.pread(result.blob.fd, 200, 0))
        self.assertEqual({}, self.blobs.committed)
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=200", str(result.cache))

    def test_cannot_be_on_the_disk(self) -> None:
        """What the disk cannot hold even for a while is a 503 before any header leaves."""
        self.room.free = self.room.disk = 100

        self.failure(Unavailable)
        self.assertTrue(self.upstream.bodies[0].is_aborted)

    def test_no_size_and_no_end(self) -> None:
        """A blob whose size nobody tells grows no further than there is room for it."""
        self.upstream.reports_sizes = False
        self.room.free = 100
        waiting = self.begin_open()
        self.upstream.bodies[0].send(50)

        self.failureResultOf(waiting, Unavailable)
        self.assertTrue(self.upstream.bodies[0].is_aborted)

    def test_no_emergency_for_what_is_not_kept(self) -> None:
        """What is not kept evicts nothing: a full disk ends it."""
        self.room.free = 100
        self.blobs.refusals = [OSError(errno.ENOSPC, "full")]
        end = self.grown(self.open(), 0)
        self.finish()

        self.failureResultOf(end, Unavailable)
        self.assertEqual(0, self.room.emergencies)

    def test_full_disk_is_swept(self) -> None:
        """A full disk in the middle is swept, and the download goes on."""
        self.blobs.refusals = [OSError(errno.ENOSPC, "full")]
        self.open()
        self.finish()

        self.assertEqual(1, self.room.emergencies)
        self.assertIn(self.digest, self.blobs.committed)

    def test_what_nobody_foresaw(self) -> None:
        """A download that breaks in an unforeseen way is logged and resumed by the next client."""
        self.blobs.refusals = [RuntimeError("unforeseen")]
        end = self.grown(self.open(), 0)
        self.upstream.bodies[0].send(50)
        self.failureResultOf(end, Unavailable)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual("parked", self.blobs.partials[0].ended)

        self.open()
        self.finish()
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_a_commit_that_may_be_tried_again(self) -> None:
        """A commit for which the disk has no room is tried again after a sweep."""
        self.blobs.commit_refusals = [OSError(errno.ENOSPC, "full")]
        self.open()
        self.finish()

        self.assertEqual((1, 2), (self.room.emergencies, self.blobs.commits))
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_a_commit_that_may_not(self) -> None:
        """A commit that failed for good reaches its client, is not tried again, and leaves nothing."""
        self.blobs.commit_refusals = [OSError(errno.EIO, "fsync failed")]
        blob = self.open()
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual((0, 1), (self.room.emergencies, self.blobs.commits))
        self.assertEqual(("discarded", {}), (self.blobs.partials[0].ended, self.blobs.committed))

    def test_full_disk(self) -> None:
        """A disk that stays full ends the download, leaves nothing, and is a 503."""
        self.room.can_help = False
        self.blobs.refusals = [OSError(errno.ENOSPC, "full")]
        blob = self.open()
        end = self.grown(blob, 0)
        self.finish()

        self.failureResultOf(end, Unavailable)
        self.assertEqual("discarded", self.blobs.partials[0].ended)
