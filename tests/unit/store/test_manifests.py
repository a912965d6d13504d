from twisted.internet.defer import Deferred

from mirrord.oci.content import ContentKind
from mirrord.oci.manifests import Manifest
from tests.fakes.stores import content_path
from tests.unit.store.cases import DEBIAN, UBUNTU, StoreTestCase, layer, manifest

IMAGE = manifest(layer(b"x"))


class ManifestStoreTests(StoreTestCase):
    def read(self, wanted: Manifest) -> Manifest | None:
        return self.result(self.store.manifests.read(wanted.digest))

    def test_bytes_and_media_type_are_verbatim(self) -> None:
        """A manifest is read as it was stored, from memory and from the disk."""
        odd = Manifest.parse(IMAGE.body, "application/vnd.example.odd+json")
        self.add_manifest(UBUNTU, odd)
        self.assertEqual(odd, self.read(odd))
        self.reopen()
        self.assertEqual(odd, self.read(odd))

    def test_a_second_read_needs_no_thread(self) -> None:
        """A manifest that was read once is read from memory."""
        self.add_manifest(UBUNTU, IMAGE)
        self.reopen()
        self.read(IMAGE)
        self.threads.called.clear()
        self.assertEqual(IMAGE, self.read(IMAGE))
        self.assertEqual([], self.threads.called)

    def test_it_is_read_while_it_is_stored(self) -> None:
        """A manifest is found from the moment that storing it began."""
        self.threads.hold()
        storing = Deferred.fromCoroutine(self.store.manifests.store(UBUNTU, IMAGE))
        self.assertEqual(IMAGE, self.read(IMAGE))
        self.assertNoResult(storing)
        self.threads.release()
        self.successResultOf(storing)

    def test_two_sources_store_one_file(self) -> None:
        """A manifest that is stored already is only linked."""
        self.add_manifest(UBUNTU, IMAGE)
        self.threads.called.clear()
        self.add_manifest(DEBIAN, IMAGE)
        self.assertNotIn("_write_once", self.threads.called)
        self.assertIsNotNone(self.store.index.link(DEBIAN, IMAGE.digest))

    def test_an_unknown_one_is_none(self) -> None:
        """A manifest that was never stored is None."""
        self.assertIsNone(self.read(IMAGE))

    def test_a_damaged_one_is_never_served(self) -> None:
        """A file that does not match its digest is set aside and counts as absent."""
        self.add_manifest(UBUNTU, IMAGE)
        path = content_path(self.layout, ContentKind.MANIFEST, IMAGE.digest)
        path.write_bytes(b"{}")
        self.reopen()
        self.assertIsNone(self.read(IMAGE))
        self.assertFalse(path.exists())
        self.assertTrue(self.layout.broken(ContentKind.MANIFEST, IMAGE.digest).exists())
        self.add_manifest(UBUNTU, IMAGE)
        self.assertEqual(IMAGE, self.read(IMAGE))

    def test_a_deleted_one_is_none(self) -> None:
        """A manifest whose file was deleted counts as absent."""
        self.add_manifest(UBUNTU, IMAGE)
        self.reopen()
        content_path(self.layout, ContentKind.MANIFEST, IMAGE.digest).unlink()
        self.assertIsNone(self.read(IMAGE))
        self.assertEqual(0, self.store.eviction.total_entries)

    def test_a_file_without_a_row_is_adopted(self) -> None:
        """A manifest whose row was lost is found by its file, with the media type inferred from its bytes."""
        self.add_manifest(UBUNTU, IMAGE)
        self.kill()
        self.assertEqual(0, self.store.eviction.total_entries)
        self.assertEqual(IMAGE, self.read(IMAGE))
        self.assertEqual(1, self.store.eviction.total_entries)

    def test_an_adopted_one_gets_its_media_type(self) -> None:
        """A manifest that recovery adopted unread gets its media type when it is read."""
        self.add_manifest(UBUNTU, IMAGE)
        self.kill()
        self.reconcile()
        self.assertEqual(1, self.store.eviction.total_entries)
        self.assertEqual(IMAGE, self.read(IMAGE))
        self.assertEqual(IMAGE, self.read(IMAGE))
