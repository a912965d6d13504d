"""Tests of mirrored/lists.py."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.lists import ListCache, MirroredReferrers, MirroredTags
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Denied, UpstreamRefused, UpstreamTimeout
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.repository import ReferrersResult
from tests.fakes.upstream import FakeUpstream

TagList = tuple[tuple[str, ...], CacheResult]

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))


class MirroredTagsTests(SynchronousTestCase):
    """Lists of tags."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.upstream.add_manifest(b"{}", "b", "a")
        upstreams = {"docker.io": self.upstream}
        lists: ListCache[RepositoryKey, tuple[str, ...]] = ListCache(
            StaleIfError(upstreams, self.clock), 1000.0, AgedCache(self.clock.seconds, 100)
        )
        self.tags = MirroredTags(upstreams, lists)

    def begin(self) -> Deferred[TagList]:
        return Deferred.fromCoroutine(self.tags.list(UBUNTU))

    def list(self) -> TagList:
        return self.successResultOf(self.begin())

    def test_cached(self) -> None:
        """A list is requested once a minute."""
        self.assertEqual((("a", "b"), "mirrord; fwd=uri-miss; fwd-status=200"), self.shown(self.list()))
        self.clock.advance(59)
        self.assertEqual((("a", "b"), "mirrord; hit; ttl=1"), self.shown(self.list()))
        self.clock.advance(2)
        self.list()

        self.assertEqual(2, self.upstream.count("GET tags"))

    def test_collapsed(self) -> None:
        """Concurrent requests for a list share one."""
        self.upstream.is_hanging = True
        waiting = [self.begin() for _ in range(3)]
        self.upstream.respond()

        self.assertEqual("mirrord; fwd=uri-miss; collapsed", self.shown(self.successResultOf(waiting[2]))[1])
        self.assertEqual(1, self.upstream.count("GET tags"))

    def test_stale(self) -> None:
        """A cached list is served stale while the upstream fails, or is silent."""
        self.list()
        self.clock.advance(100)
        self.upstream.failing = UpstreamRefused("down", upstream_status=502)
        self.assertEqual(
            "mirrord; fwd=stale; fwd-status=502; detail=stale-if-error", self.shown(self.list())[1]
        )
        self.upstream.failing, self.upstream.is_hanging = None, True
        waiting = self.begin()
        self.clock.advance(3)
        self.assertEqual(
            "mirrord; fwd=stale; detail=stale-if-error", self.shown(self.successResultOf(waiting))[1]
        )

    def test_silence_degrades(self) -> None:
        """After a silence, a cached list is served without a request."""
        self.list()
        self.clock.advance(100)
        self.upstream.is_hanging = True
        waiting = self.begin()
        self.clock.advance(3)
        self.successResultOf(waiting)

        self.assertEqual("mirrord; hit; ttl=-43; detail=stale-if-error", self.shown(self.list())[1])
        self.assertEqual(2, self.upstream.count("GET tags"))

    def test_denied(self) -> None:
        """A list that the upstream denies is deleted, and not served stale later."""
        self.list()
        self.clock.advance(100)
        self.upstream.failing = Denied("no")
        self.failureResultOf(self.begin(), Denied)
        self.upstream.failing = UpstreamRefused("down", upstream_status=502)

        self.failureResultOf(self.begin(), UpstreamRefused)

    def test_too_old(self) -> None:
        """Nothing is served stale for longer than `stale_if_error`."""
        self.list()
        self.clock.advance(1100)
        self.upstream.failing = UpstreamRefused("down", upstream_status=502)

        self.failureResultOf(self.begin(), UpstreamRefused)

    def test_uncached(self) -> None:
        """Without a cached list, a silent upstream is a timeout."""
        self.upstream.is_hanging = True
        waiting = self.begin()
        self.clock.advance(24)
        self.failureResultOf(waiting, UpstreamTimeout)

    def shown(self, result: TagList) -> tuple[tuple[str, ...], str]:
        return result[0], str(result[1])


class MirroredReferrersTests(SynchronousTestCase):
    """Lists of referrers."""

    def test_by_artifact_type(self) -> None:
        """Lists of different artifact types are cached separately."""
        clock, upstream, digest = Clock(), FakeUpstream(), Digest.of(b"subject")
        upstreams = {"docker.io": upstream}
        stale_if_error = StaleIfError(upstreams, clock)
        referrers = MirroredReferrers(
            upstreams, ListCache(stale_if_error, 1000.0, AgedCache(clock.seconds, 100))
        )

        def listed(artifact_type: str | None) -> ReferrersResult:
            return self.successResultOf(Deferred.fromCoroutine(referrers.list(UBUNTU, digest, artifact_type)))

        self.assertEqual([False, True, True], [listed(kind).is_filtered for kind in (None, "x", "x")])
        self.assertEqual(2, upstream.count("GET referrers"))
