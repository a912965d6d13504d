"""Tests of mirrord/hosted/deletion.py; removal by the operator is tested in tests/unit/admin."""

from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, Unsupported
from mirrord.oci.manifests import OCI_INDEX, Manifest
from mirrord.oci.names import HOSTED, RepositoryKey, Tag
from mirrord.oci.routes import Page
from tests.unit.hosted.cases import APP, HostedCase

BLOB = Digest.of(b"blob")
INDEX = Manifest.parse(b'{"schemaVersion": 2, "manifests": []}', OCI_INDEX)


class HostedDeletionTests(HostedCase):
    def setUp(self) -> None:
        super().setUp()
        self.repositories.push(APP, b"blob", INDEX, tags=["a", "b", "c"])

    def tags(self) -> tuple[str, ...]:
        repository = self.repositories.hosted(RepositoryKey(HOSTED, APP))
        return self.result(repository.list_tags(Page())).tags

    def test_delete(self) -> None:
        """A tag is deleted alone, a manifest with its tags, a blob alone; what was deleted is unknown."""
        repository = self.repositories.hosted(RepositoryKey(HOSTED, APP))
        self.result(repository.delete_manifest(Tag("a")))
        self.assertEqual(("b", "c"), self.tags())
        self.result(repository.delete_manifest(INDEX.digest))
        self.assertEqual((), self.tags())
        self.assertIsNotNone(self.links.link(APP, BLOB))
        self.result(repository.delete_blob(BLOB))
        self.assertIsNone(self.links.link(APP, BLOB))

        self.failure(repository.delete_manifest(Tag("b")), ManifestUnknown)
        self.failure(repository.delete_manifest(INDEX.digest), ManifestUnknown)
        self.failure(repository.delete_blob(BLOB), BlobUnknown)

    def test_forbidden(self) -> None:
        """Nothing is deleted if the configuration does not allow it."""
        self.repositories.can_delete = False
        repository = self.repositories.hosted(RepositoryKey(HOSTED, APP))

        self.failure(repository.delete_blob(BLOB), Unsupported)
        self.failure(repository.delete_manifest(INDEX.digest), Unsupported)
        self.failure(repository.delete_manifest(Tag("a")), Unsupported)
        self.assertIsNotNone(self.links.link(APP, BLOB))
        self.assertEqual(("a", "b", "c"), self.tags())
