import errno
import os

from twisted.internet.defer import CancelledError, Deferred

from mirrord.mirrored.ports import PartialBlob
from mirrord.oci.digest import Digest
from tests.unit.store.cases import StoreTestCase

BODY = b"0123456789" * 1000


class PartialFileTests(StoreTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.digest = Digest.of(BODY)

    def begin(self, *, is_kept: bool = True) -> PartialBlob:
        return self.result(self.store.blobs.create_partial(self.digest, is_kept=is_kept))

    def test_it_grows_into_a_blob(self) -> None:
        """A partial is written piece by piece, verified, and is the blob after the commit."""
        partial = self.begin()
        self.result(partial.write(BODY[:4000]))
        self.assertFalse(self.result(partial.is_verified()))
        self.result(partial.write(BODY[4000:]))
        self.assertTrue(self.result(partial.is_verified()))
        self.assertIsNone(self.store.blobs.size_of(self.digest))
        self.result(partial.commit())
        self.assertEqual(BODY, self.read_blob(self.digest))
        self.assertEqual([], list(self.layout.partials.iterdir()))

    def test_readers_read_while_it_grows(self) -> None:
        """A reader's own descriptor reads what is written, also after the commit."""
        partial = self.begin()
        reader = partial.open_reader()
        self.addCleanup(os.close, reader)
        self.result(partial.write(BODY[:100]))
        self.assertEqual(BODY[:100], os.pread(reader, 200, 0))
        self.result(partial.write(BODY[100:]))
        self.result(partial.commit())
        self.assertEqual(BODY, os.pread(reader, len(BODY), 0))

    def test_a_refused_write_changes_nothing(self) -> None:
        """After ENOSPC the offset is unchanged, and the same write can be repeated."""
        partial = self.begin()
        self.result(partial.write(BODY[:100]))
        self.threads.failures["append"] = OSError(errno.ENOSPC, "full")
        self.failure(partial.write(BODY[100:]), OSError)
        self.assertEqual(100, partial.offset)
        self.result(partial.write(BODY[100:]))
        self.assertTrue(self.result(partial.is_verified()))
        self.result(partial.discard())

    def test_a_parked_one_is_resumed(self) -> None:
        """A partial that was written before a restart is found, hashed again, and completed."""
        partial = self.begin()
        self.result(partial.write(BODY[:4000]))
        self.reopen()
        found = self.result(self.store.blobs.find_partial(self.digest))
        assert found is not None
        self.assertEqual(4000, found.offset)
        self.result(found.write(BODY[4000:]))
        self.assertTrue(self.result(found.is_verified()))
        self.result(found.commit())
        self.assertEqual(BODY, self.read_blob(self.digest))

    def test_it_survives_a_kill(self) -> None:
        """A partial that was not parked is found by the next run."""
        self.result(self.begin().write(BODY[:4000]))
        self.kill()
        found = self.result(self.store.blobs.find_partial(self.digest))
        assert found is not None
        self.assertEqual(4000, found.offset)

    def test_a_prefix_that_cannot_be_read_is_hashed_from_the_start(self) -> None:
        """When hashing a resumed partial fails half-way, the next attempt starts again and is correct."""
        self.result(self.begin().write(BODY[:4000]))
        self.reopen()
        found = self.result(self.store.blobs.find_partial(self.digest))
        assert found is not None
        path = self.layout.partial(self.digest)
        os.truncate(path, 2000)
        self.failure(found.write(BODY[4000:]), OSError)
        path.write_bytes(BODY[:4000])
        self.result(found.write(BODY[4000:]))
        self.assertTrue(self.result(found.is_verified()))

    def test_a_discarded_one_is_gone(self) -> None:
        """After `discard` there is no file and nothing to resume."""
        partial = self.begin()
        self.result(partial.write(BODY))
        self.result(partial.discard())
        self.assertIsNone(self.result(self.store.blobs.find_partial(self.digest)))
        self.assertEqual(0, self.store.eviction.total_bytes)

    def test_an_unkept_one_has_no_name(self) -> None:
        """A partial that is not kept can be read and verified, has no name, and is not committed."""
        partial = self.begin(is_kept=False)
        reader = partial.open_reader()
        self.addCleanup(os.close, reader)
        self.result(partial.write(BODY))
        self.assertFalse(partial.is_kept)
        self.assertTrue(self.result(partial.is_verified()))
        self.assertEqual([], [*self.layout.partials.iterdir(), *self.layout.mirrored.scratch.iterdir()])
        self.result(partial.commit())
        self.assertIsNone(self.store.blobs.open(self.digest))
        self.assertEqual(BODY, os.pread(reader, len(BODY), 0))

    def test_one_writer_a_digest(self) -> None:
        """While a digest is being written a second partial is refused, and none is found."""
        self.begin()
        self.failure(self.store.blobs.create_partial(self.digest, is_kept=True), ValueError)
        self.assertIsNone(self.result(self.store.blobs.find_partial(self.digest)))

    def test_a_new_one_replaces_a_parked_one(self) -> None:
        """A new partial replaces the parked one."""
        partial = self.begin()
        self.result(partial.write(b"wrong"))
        self.result(partial.park())
        partial = self.begin()
        self.assertEqual(0, partial.offset)
        self.result(partial.write(BODY))
        self.assertTrue(self.result(partial.is_verified()))

    def test_an_empty_one_leaves_no_file(self) -> None:
        """Parking a partial without a byte leaves nothing on the disk."""
        self.result(self.begin().park())
        self.assertEqual([], list(self.layout.partials.iterdir()))

    def test_a_descriptor_outlives_its_thread(self) -> None:
        """A partial that is parked while a thread writes to it is closed and found only afterwards."""
        partial = self.begin()
        self.result(partial.write(BODY[:4000]))
        self.threads.hold()
        writing = Deferred.fromCoroutine(partial.write(BODY[4000:]))
        writing.cancel()
        self.failureResultOf(writing, CancelledError)
        parking = Deferred.fromCoroutine(partial.park())
        self.assertIsNone(self.result(self.store.blobs.find_partial(self.digest)))
        self.assertNoResult(parking)
        self.threads.release()
        self.successResultOf(parking)
        found = self.result(self.store.blobs.find_partial(self.digest))
        assert found is not None
        self.assertEqual(len(BODY), found.offset)
        self.assertTrue(self.result(found.is_verified()))

    def test_a_commit_without_room_may_be_tried_again(self) -> None:
        """A commit that fails with ENOSPC leaves the partial unchanged, and can be repeated."""
        partial = self.begin()
        self.result(partial.write(BODY))
        self.threads.failures["commit"] = OSError(errno.ENOSPC, "full")
        self.failure(partial.commit(), OSError)
        self.assertIsNone(self.store.blobs.size_of(self.digest))
        self.result(partial.commit())
        self.assertEqual(BODY, self.read_blob(self.digest))

    def test_a_cancelled_commit(self) -> None:
        """A commit completes although its caller is cancelled, and the descriptor is closed after it."""
        partial = self.begin()
        self.result(partial.write(BODY))
        self.threads.hold()
        committing = Deferred.fromCoroutine(partial.commit())
        committing.cancel()
        self.failureResultOf(committing, CancelledError)
        parking = Deferred.fromCoroutine(partial.park())
        self.assertNoResult(parking)
        self.threads.release()
        self.successResultOf(parking)
        self.assertEqual(BODY, self.read_blob(self.digest))
        self.assertIsNone(self.result(self.store.blobs.find_partial(self.digest)))

    def test_a_committed_one_opens_no_reader(self) -> None:
        """After the commit a partial opens no reader: its descriptor is closed."""
        partial = self.begin()
        self.result(partial.write(BODY))
        self.result(partial.commit())
        self.assertRaises(ValueError, partial.open_reader)

    def test_the_reactor_does_not_wait(self) -> None:
        """Partials are created, found, parked and deleted in threads, and the reactor does not wait."""
        self.threads.hold()
        creating = Deferred.fromCoroutine(self.store.blobs.create_partial(self.digest, is_kept=True))
        self.assertNoResult(creating)
        self.assertFalse(self.layout.partial(self.digest).exists())
        self.threads.release()
        partial = self.successResultOf(creating)
        self.result(partial.write(BODY[:4000]))

        self.threads.hold()
        parking = Deferred.fromCoroutine(partial.park())
        self.assertNoResult(parking)
        self.threads.release()
        self.successResultOf(parking)
        self.threads.hold()
        finding = Deferred.fromCoroutine(self.store.blobs.find_partial(self.digest))
        self.assertNoResult(finding)
        self.threads.release()
        found = self.successResultOf(finding)
        assert found is not None

        self.threads.hold()
        discarding = Deferred.fromCoroutine(found.discard())
        self.assertTrue(self.layout.partial(self.digest).exists())
        self.threads.release()
        self.successResultOf(discarding)
        self.assertFalse(self.layout.partial(self.digest).exists())

    def test_detached(self) -> None:
        """A partial that is detached keeps its bytes for its readers, is not kept, and uses no room."""
        partial = self.begin()
        self.result(partial.write(BODY[:4000]))
        reader = partial.open_reader()
        self.result(partial.detach())
        self.assertFalse(partial.is_kept)
        self.assertEqual(0, self.store.eviction.total_bytes)
        self.result(partial.write(BODY[4000:]))
        self.assertTrue(self.result(partial.is_verified()))
        self.result(partial.commit())
        self.assertIsNone(self.store.blobs.size_of(self.digest))
        self.assertEqual(BODY, os.pread(reader, len(BODY), 0))
        partial.close_reader(reader)
        self.assertEqual([], list(self.layout.partials.iterdir()))

    def test_late_creation(self) -> None:
        """While a creation that missed its deadline may still truncate the file, no other one begins."""
        self.threads.hold()
        creating = Deferred.fromCoroutine(self.store.blobs.create_partial(self.digest, is_kept=True))
        self.threads.expire()
        self.failureResultOf(creating, OSError)
        self.failure(self.store.blobs.create_partial(self.digest, is_kept=True), OSError)
        self.threads.release()
        self.result(self.begin().write(BODY))

    def test_late_parking(self) -> None:
        """A partial whose parking misses its deadline can be resumed when that has ended."""
        partial = self.begin()
        self.result(partial.write(BODY[:4000]))
        self.threads.hold()
        parking = Deferred.fromCoroutine(partial.park())
        self.threads.expire()
        self.successResultOf(parking)
        self.assertIsNone(self.result(self.store.blobs.find_partial(self.digest)))
        self.failure(self.store.blobs.create_partial(self.digest, is_kept=True), OSError)
        self.threads.release()
        self.assertIsNotNone(self.result(self.store.blobs.find_partial(self.digest)))

    def test_a_failed_opening(self) -> None:
        """A parked partial that cannot be opened stays parked; one that is gone is forgotten."""
        partial = self.begin()
        self.result(partial.write(BODY[:4000]))
        self.result(partial.park())
        self.threads.failures["open"] = OSError(errno.EMFILE, "no descriptors")
        self.failure(self.store.blobs.find_partial(self.digest), OSError)
        self.assertEqual(4096, self.store.eviction.total_bytes)
        self.layout.partial(self.digest).unlink()
        self.assertIsNone(self.result(self.store.blobs.find_partial(self.digest)))
        self.assertEqual(0, self.store.eviction.total_bytes)

    def test_ending_twice(self) -> None:
        """After the commit, `park` and `discard` do nothing, and writing is refused."""
        partial = self.begin()
        self.result(partial.write(BODY))
        self.result(partial.commit())
        self.result(partial.park())
        self.result(partial.discard())
        self.failure(partial.write(b"more"), ValueError)
        self.assertEqual(BODY, self.read_blob(self.digest))
