import os
from pathlib import Path

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store.audit import SLICE_BYTES, ContentExamination
from tests.fakes.stores import content_path
from tests.unit.store.cases import UBUNTU, StoreTestCase, layer, manifest


class AuditTests(StoreTestCase):
    def entries(self) -> list[Entry]:
        self.result(self.store.browser.flush())
        return [entry for page in self.store.audit.pages() for entry in page]

    def examine(self, digest: Digest, kind: ContentKind = ContentKind.BLOB) -> ContentExamination:
        (entry,) = (entry for entry in self.entries() if (entry.name, entry.kind) == (str(digest), kind))
        examination = self.store.audit.examine(entry)
        assert examination is not None
        self.addCleanup(examination.close)
        return examination

    def hash_all(self, examination: ContentExamination) -> list[int]:
        counts = []
        while count := self.result(examination.hash_slice()):
            counts.append(count)
        return counts

    def test_pages(self) -> None:
        """All content is listed once, however much there is, and nothing that is only in the overlay."""
        digests = {str(self.add_blob(b"%d" % number)) for number in range(300)}
        self.add_manifest(UBUNTU, manifest())

        listed = self.entries()

        self.assertEqual(301, len(listed))
        self.assertEqual(digests, {entry.name for entry in listed if entry.kind is ContentKind.BLOB})
        self.assertEqual(self.store.audit.total_bytes, sum(entry.size for entry in listed))
        self.assertEqual(self.store.audit.total_entries, len(listed))

    def test_whole(self) -> None:
        """A file is hashed slice by slice, and is what its digest names."""
        body = os.urandom(1024) * (SLICE_BYTES // 1024) + b"more"
        examination = self.examine(self.add_blob(body))

        self.assertEqual([SLICE_BYTES, 4], self.hash_all(examination))
        self.assertTrue(examination.is_whole)

    def test_damaged(self) -> None:
        """Content that does not match its digest is absent at once, also from memory, and set aside."""
        for kind in ContentKind.BLOB, ContentKind.MANIFEST:
            with self.subTest(kind):
                image = manifest(layer(b"x"))
                digest = image.digest if kind is ContentKind.MANIFEST else self.add_blob(b"good")
                if kind is ContentKind.MANIFEST:
                    self.add_manifest(UBUNTU, image)
                self.read_blob(digest)
                content_path(self.layout, kind, digest).write_bytes(b"evil")
                examination = self.examine(digest, kind)
                self.hash_all(examination)

                self.assertFalse(examination.is_whole)
                self.assertTrue(examination.set_aside())

                self.assertIsNone(self.store.browser.size_of(kind, digest))
                self.assertIsNone(self.read_blob(digest))
                self.assertEqual(0, self.store.contents.bodies.total_bytes)
                self.assertIsNone(self.result(self.store.manifests.read(digest)))
                self.assertEqual(b"evil", self.layout.broken(kind, digest).read_bytes())
                self.assertIn(
                    self.layout.broken(kind, digest).name, [e.name for e in self.store.eviction.partials()]
                )

    def test_missing(self) -> None:
        """A missing file cannot be hashed, and its content becomes absent."""
        digest = self.add_blob(b"gone")
        content_path(self.layout, ContentKind.BLOB, digest).unlink()
        examination = self.examine(digest)

        self.failure(examination.hash_slice(), OSError)
        self.assertTrue(examination.set_aside())
        self.assertIsNone(self.store.browser.size_of(ContentKind.BLOB, digest))

    def test_gone_meanwhile(self) -> None:
        """Content that was evicted since it was listed is neither examined nor set aside."""
        digest = self.add_blob(b"x")
        (entry,) = self.entries()
        examination = self.examine(digest)
        self.result(self.store.browser.remove([digest]))

        self.assertIsNone(self.store.audit.examine(entry))
        self.assertFalse(examination.set_aside())

    def test_replaced_meanwhile(self) -> None:
        """A file that was replaced in the meantime is not set aside for the damage of the old one."""
        digest = self.add_blob(b"good")
        path = content_path(self.layout, ContentKind.BLOB, digest)
        examination = self.examine(digest)
        path.unlink()
        missing = self.examine(digest)
        path.with_suffix(".new").write_bytes(b"good")
        path.with_suffix(".new").rename(path)

        self.assertFalse(examination.set_aside())
        self.assertFalse(missing.set_aside())
        self.assertEqual(4, self.store.blobs.size_of(digest))

    def test_cancelled(self) -> None:
        """A caller cancelled while a slice is hashed leaves no descriptor behind, and may close twice."""
        examination = self.examine(self.add_blob(b"x" * 100))
        before = len(list(Path("/proc/self/fd").iterdir()))
        self.threads.hold()
        hashing = examination.hash_slice()
        hashing.send(None)
        hashing.close()
        examination.close()
        examination.close()
        self.threads.release()

        self.assertEqual(before - 1, len(list(Path("/proc/self/fd").iterdir())))
