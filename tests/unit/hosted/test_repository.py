"""Tests of mirrord/hosted/repository.py; its use cases have tests of their own."""

from contextlib import closing

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, Unavailable
from mirrord.oci.manifests import DOCKER_LIST, Manifest
from mirrord.oci.names import HOSTED, RepositoryKey, Tag
from mirrord.oci.routes import Page
from tests.unit.hosted.cases import APP, OTHER, HostedCase

BLOB = Digest.of(b"blob")
LIST = Manifest.parse(b'{"schemaVersion": 2, "manifests": []}', DOCKER_LIST)


class HostedRepositoryTests(HostedCase):
    def setUp(self) -> None:
        super().setUp()
        self.repositories.push(APP, b"blob", LIST, tags=["1", "2"])
        self.repository = self.repositories.hosted(RepositoryKey(HOSTED, APP))

    def test_manifest(self) -> None:
        """A manifest is returned by tag and digest, with the media type under which it was pushed."""
        for reference in (Tag("1"), LIST.digest):
            found = self.result(self.repository.get_manifest(reference))
            self.assertEqual((LIST, "mirrord; hit"), (found.manifest, str(found.cache)))
            head = self.result(self.repository.head_manifest(reference))
            self.assertEqual(LIST.descriptor, head.descriptor)

    def test_blob(self) -> None:
        """A blob is opened, and has a size."""
        with closing(self.result(self.repository.open_blob(BLOB)).blob) as blob:
            self.assertEqual((4, b"blob"), (blob.size, blob.body))
        self.assertEqual(4, self.result(self.repository.head_blob(BLOB)).size)

    def test_other_repository(self) -> None:
        """Content of another repository is unknown."""
        other = self.repositories.hosted(RepositoryKey(HOSTED, OTHER))
        self.failure(other.get_manifest(LIST.digest), ManifestUnknown)
        self.failure(other.head_manifest(Tag("1")), ManifestUnknown)
        self.failure(other.open_blob(BLOB), BlobUnknown)
        self.failure(other.head_blob(BLOB), BlobUnknown)
        self.assertEqual((), self.result(other.list_tags(Page())).tags)

    def test_lost(self) -> None:
        """Content that the disk has lost is unavailable, and not unknown: it was pushed."""
        self.store.lose(ContentKind.BLOB, BLOB)
        self.store.lose(ContentKind.MANIFEST, LIST.digest)
        self.failure(self.repository.open_blob(BLOB), Unavailable)
        self.failure(self.repository.get_manifest(Tag("1")), Unavailable)

    def test_lost_is_pushed_again(self) -> None:
        """A client that asks what is there, as one that pushes does, pushes what the disk has lost again."""
        for kind, digest in ((ContentKind.BLOB, BLOB), (ContentKind.MANIFEST, LIST.digest)):
            self.store.layout.content(kind, digest, is_hosted=True).unlink()
        self.failure(self.repository.head_blob(BLOB), BlobUnknown)
        self.failure(self.repository.head_manifest(Tag("1")), ManifestUnknown)
        self.push_blob(b"blob", self.repository.key.repository)
        self.result(self.links.put_manifest(self.repository.key.repository, LIST, [Tag("1")]))
        self.assertEqual(4, self.result(self.repository.head_blob(BLOB)).size)
        self.assertEqual(LIST.descriptor, self.result(self.repository.head_manifest(Tag("1"))).descriptor)
        self.assertEqual(b"blob", self.store.blob(BLOB))

    def test_tags(self) -> None:
        """A page of tags begins after its last name, and has one more than its limit."""
        for page, tags in ((Page(), ("1", "2")), (Page(1), ("1", "2")), (Page(5, "1"), ("2",))):
            self.assertEqual(tags, self.result(self.repository.list_tags(page)).tags)

    def test_writer(self) -> None:
        """A hosted repository accepts pushes."""
        self.assertIs(self.repository, self.repository.writer)
