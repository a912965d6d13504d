import os

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store.blobs import SMALL_BYTES
from tests.fakes.stores import content_path
from tests.unit.store.cases import StoreTestCase

SMALL, LARGE = b"s" * 100, b"l" * (SMALL_BYTES + 1)


class BlobStoreTests(StoreTestCase):
    def test_small_ones_are_in_memory(self) -> None:
        """A small blob has a body, a large one a descriptor; both read the same."""
        for body, is_small in ((SMALL, True), (LARGE, False)):
            digest = self.add_blob(body)
            blob = self.store.blobs.open(digest)
            assert blob is not None
            self.assertEqual((len(body), is_small), (blob.size, blob.body is not None))
            blob.close()
            self.assertEqual(body, self.read_blob(digest))

    def test_an_unknown_one_is_none(self) -> None:
        """A blob that was never committed has no size and cannot be opened."""
        self.assertIsNone(self.store.blobs.size_of(Digest.of(b"?")))
        self.assertIsNone(self.store.blobs.open(Digest.of(b"?")))

    def test_every_reader_has_its_own_descriptor(self) -> None:
        """Closing one reader leaves the other reading, and may be done twice."""
        digest = self.add_blob(LARGE)
        first, second = self.store.blobs.open(digest), self.store.blobs.open(digest)
        assert first is not None
        assert second is not None
        self.assertNotEqual(first.fd, second.fd)
        first.close()
        first.close()
        self.assertEqual(LARGE, os.pread(second.fd, len(LARGE), 0))
        self.assertTrue(self.store.blobs.is_pinned(digest))
        second.close()
        self.assertFalse(self.store.blobs.is_pinned(digest))
        self.assertRaises(ValueError, lambda: second.fd)

    def test_an_open_blob_is_not_evicted(self) -> None:
        """An open blob is not evicted, a closed one is."""
        for body in (SMALL, LARGE):
            digest = self.add_blob(body)
            entry = Entry(kind=ContentKind.BLOB, name=str(digest), size=4096, idle_seconds=0.0)
            blob = self.store.blobs.open(digest)
            assert blob is not None
            self.assertEqual([], self.result(self.store.eviction.evict([entry])))
            blob.close()
            self.assertEqual([entry], self.result(self.store.eviction.evict([entry])))
            self.assertIsNone(self.read_blob(digest))

    def test_a_short_file_is_never_served(self) -> None:
        """A blob whose file has another length or other bytes is set aside and absent."""
        for body, damage in ((LARGE, LARGE[:-1]), (SMALL, SMALL[:-1]), (SMALL + b"!", SMALL + b"?")):
            digest = self.add_blob(body)
            path = content_path(self.layout, ContentKind.BLOB, digest)
            path.write_bytes(damage)
            self.assertIsNone(self.store.blobs.open(digest))
            self.assertIsNone(self.store.blobs.size_of(digest))
            self.assertEqual(damage, self.layout.broken(ContentKind.BLOB, digest).read_bytes())
            self.add_blob(body)
            self.assertEqual(body, self.read_blob(digest))

    def test_damaged_content_is_moved_in_a_thread(self) -> None:
        """A damaged blob is absent at once, and not adopted before a thread has moved its file."""
        digest = self.add_blob(b"x")
        path = self.layout.mirrored.path(ContentKind.BLOB, digest)
        path.write_bytes(b"y")
        self.threads.hold()
        self.assertIsNone(self.store.blobs.open(digest))
        self.assertTrue(path.exists())
        self.assertIsNone(self.store.blobs.size_of(digest))
        self.threads.release()
        self.assertFalse(path.exists())
        self.assertEqual(b"y", self.layout.broken(ContentKind.BLOB, digest).read_bytes())

    def test_a_deleted_file_counts_as_absent(self) -> None:
        """A blob whose file was deleted is absent and no longer counted."""
        digest = self.add_blob(LARGE)
        content_path(self.layout, ContentKind.BLOB, digest).unlink()
        self.assertIsNone(self.store.blobs.open(digest))
        self.assertEqual((0, 0), (self.store.eviction.total_entries, self.store.eviction.total_bytes))

    def test_a_file_without_a_row_is_adopted(self) -> None:
        """A blob that was renamed just before kill -9 is found when it is requested."""
        digest = self.add_blob(LARGE)
        self.kill()
        self.assertEqual(0, self.store.eviction.total_entries)
        self.assertEqual(len(LARGE), self.store.blobs.size_of(digest))
        self.assertEqual(LARGE, self.read_blob(digest))
        self.assertEqual(1, self.store.eviction.total_entries)

    def test_a_disk_that_fails_is_an_error(self) -> None:
        """A blob that cannot be opened raises OSError: it is not absent."""
        digest = self.add_blob(LARGE)
        path = content_path(self.layout, ContentKind.BLOB, digest)
        path.unlink()
        path.symlink_to(path.name)
        self.assertRaises(OSError, self.store.blobs.open, digest)
        self.assertEqual(len(LARGE), self.store.blobs.size_of(digest))
