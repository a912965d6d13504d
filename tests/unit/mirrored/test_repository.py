"""Tests of mirrored/repository.py; its use cases have tests of their own."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.repository import MirroredRepository, MirroredServices
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.mirrored.tags import MirroredTags
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryKey
from mirrord.oci.routes import Page
from tests.fakes.store import MemoryBlobs, MemoryIndex
from tests.fakes.upstream import FakeUpstream
from tests.unit.mirrored.cases import OTHER, UBUNTU


class MirroredRepositoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.index = MemoryIndex()
        self.files = MemoryBlobs()

    def repository(self, key: RepositoryKey = UBUNTU) -> MirroredRepository:
        upstreams, unused = {"docker.io": self.upstream}, None
        lists: ListCache[RepositoryKey, tuple[str, ...]] = ListCache(
            StaleIfError(upstreams, self.clock), 1000.0, AgedCache(self.clock.seconds, 100)
        )
        rest: Any = unused
        services = MirroredServices(
            manifests=rest,
            blobs=rest,
            tags=MirroredTags(upstreams, lists),
            referrers=rest,
            removal=rest,
            index=self.index,
            files=self.files,
            content=rest,
            problem=lambda upstream: f"{upstream} is down",
            downloads=dict,
            tag_ttl={},
            default_tag_ttl=300.0,
            now=self.clock.seconds,
        )
        return MirroredRepository(key, services)

    def tags(self, page: Page) -> tuple[str, ...]:
        return self.successResultOf(Deferred.fromCoroutine(self.repository().list_tags(page))).tags

    def test_tags_that_could_not_be_pulled(self) -> None:
        """Names in an upstream's list that are not tags are on no page, and do not lengthen one."""
        for name in ("", "-x", "1.0", "a b", "a\r\nb", "latest", "\ud800", "\ud801"):
            self.upstream.tags[name] = Digest.of(b"{}")

        self.assertEqual(("1.0", "latest"), self.tags(Page()))
        self.assertEqual(("1.0", "latest"), self.tags(Page(1)))
        self.assertEqual(("latest",), self.tags(Page(1, "1.0")))

    def test_pages(self) -> None:
        """A page begins where its last name would stand, and has one name more than asked for."""
        for name in "abcde":
            self.upstream.tags[name] = Digest.of(b"{}")

        self.assertEqual(("c", "d", "e"), self.tags(Page(2, "b")))
        self.assertEqual(("c", "d", "e"), self.tags(Page(None, "bb")))
        self.assertEqual((), self.tags(Page(2, "e")))

    def test_no_writer(self) -> None:
        """A mirrored repository is read-only."""
        self.assertIsNone(self.repository().writer)

    def test_stored_blob(self) -> None:
        """A blob can be mounted from a repository that has a link to it, while it is cached."""
        digest = Digest.of(b"blob")
        self.assertIsNone(self.repository().stored_blob_size(digest))
        self.files.committed[digest] = b"blob"
        self.assertIsNone(self.repository().stored_blob_size(digest))
        self.index.add_links(UBUNTU, [Descriptor("", digest, 4)])

        self.assertEqual(4, self.repository().stored_blob_size(digest))
        self.assertIsNone(self.repository(OTHER).stored_blob_size(digest))

    def test_unavailable(self) -> None:
        """A problem of the upstream matters only if not everything is stored."""
        repository = self.repository()

        self.assertIsNone(repository.unavailable_because(is_known=True, is_complete=True))
        for is_known in (True, False):
            reason = repository.unavailable_because(is_known=is_known, is_complete=False)
            self.assertEqual("docker.io is down", reason)
