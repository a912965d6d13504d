"""Tests of mirrored/repository.py; its use cases have tests of their own."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.oci.routes import Page
from tests.fakes.repositories import DEFAULT_TAG_TTL, TAG_TTL, Repositories
from tests.unit.mirrored.cases import OTHER, UBUNTU

QUAY = RepositoryKey("quay.io", RepositoryName("a/b"))


class MirroredRepositoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.repositories = Repositories.of(self)
        self.store = self.repositories.store
        self.upstream = self.repositories.hub
        self.repository = self.repositories.mirrored(UBUNTU)

    def tags(self, page: Page) -> tuple[str, ...]:
        return self.successResultOf(Deferred.fromCoroutine(self.repository.list_tags(page))).tags

    def test_tags_that_could_not_be_pulled(self) -> None:
        """Names in an upstream's list that are not valid tags are left out."""
        for name in ("", "-x", "1.0", "a b", "a\r\nb", "latest", "\ud800", "\ud801"):
            self.upstream.tags[name] = Digest.of(b"{}")

        self.assertEqual(("1.0", "latest"), self.tags(Page()))
        self.assertEqual(("1.0", "latest"), self.tags(Page(1)))
        self.assertEqual(("latest",), self.tags(Page(1, "1.0")))

    def test_pages(self) -> None:
        """A page begins after its last name, and has one name more than the limit."""
        for name in "abcde":
            self.upstream.tags[name] = Digest.of(b"{}")

        self.assertEqual(("c", "d", "e"), self.tags(Page(2, "b")))
        self.assertEqual(("c", "d", "e"), self.tags(Page(None, "bb")))
        self.assertEqual((), self.tags(Page(2, "e")))

    def test_no_writer(self) -> None:
        """A mirrored repository is read-only."""
        self.assertIsNone(self.repository.writer)

    def test_stored_blob(self) -> None:
        """A blob can be mounted from a repository that has a link to it, while it is cached."""
        digest = Digest.of(b"blob")
        self.assertIsNone(self.repository.stored_blob_size(digest))
        self.store.add_blob(b"blob")
        self.assertIsNone(self.repository.stored_blob_size(digest))
        self.store.link(UBUNTU, Descriptor("", digest, 4))

        self.assertEqual(4, self.repository.stored_blob_size(digest))
        self.assertIsNone(self.repositories.mirrored(OTHER).stored_blob_size(digest))

    def test_unavailable(self) -> None:
        """A problem of the upstream matters only if not everything is stored."""
        repository = self.repository
        self.repositories.problem = "docker.io is down"

        self.assertIsNone(repository.unavailable_because(is_known=True, is_complete=True))
        for is_known in (True, False):
            reason = repository.unavailable_because(is_known=is_known, is_complete=False)
            self.assertEqual("docker.io is down", reason)

    def test_tag_ttl(self) -> None:
        """Tags of an upstream without a ttl of its own are fresh for the default ttl."""
        manifest = self.upstream.add_manifest(b'{"layers": []}')
        for key, seconds in ((UBUNTU, TAG_TTL), (QUAY, DEFAULT_TAG_TTL)):
            self.store.observe(key, "latest", manifest, 5.0)
            ((tag,),) = self.repositories.mirrored(key).stored_tags()
            self.assertEqual(5.0 + seconds, tag.fresh_until)
