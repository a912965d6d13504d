"""Tests of mirrored/list_cache.py, tags.py and referrers.py."""

from itertools import islice

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.referrers import MirroredReferrers
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.mirrored.tags import MirroredCatalog, MirroredTags
from mirrord.oci import routes
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Denied, NameUnknown, UpstreamRefused, UpstreamTimeout
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.repository import ReferrersResult, TagListResult
from mirrord.routing import Router, UpstreamRoute
from tests.fakes.store import MemoryIndex
from tests.fakes.upstream import FakeUpstream

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))


class TagListerTests(SynchronousTestCase):
    """Lists of tags."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.upstream.has(b"{}", "b", "a")
        upstreams = {"docker.io": self.upstream}
        lists: ListCache[RepositoryKey, tuple[str, ...]] = ListCache(
            StaleIfError(upstreams, self.clock), 1000.0, AgedCache(self.clock.seconds, 100)
        )
        self.lister = MirroredTags(upstreams, lists)

    def begin(self) -> Deferred[TagListResult]:
        return Deferred.fromCoroutine(self.lister.list(UBUNTU))

    def list(self) -> TagListResult:
        return self.successResultOf(self.begin())

    def test_remembered(self) -> None:
        """A list is asked for once a minute."""
        self.assertEqual((("a", "b"), "mirrord; fwd=uri-miss; fwd-status=200"), self.shown(self.list()))
        self.clock.advance(59)
        self.assertEqual((("a", "b"), "mirrord; hit; ttl=1"), self.shown(self.list()))
        self.clock.advance(2)
        self.list()

        self.assertEqual(2, self.upstream.count("GET tags"))

    def test_collapsed(self) -> None:
        """Who asks while a list is being fetched shares it."""
        self.upstream.is_hanging = True
        waiting = [self.begin() for _ in range(3)]
        self.upstream.answers()

        self.assertEqual("mirrord; fwd=uri-miss; collapsed", self.shown(self.successResultOf(waiting[2]))[1])
        self.assertEqual(1, self.upstream.count("GET tags"))

    def test_stale(self) -> None:
        """A remembered list is served while the upstream fails, or is silent."""
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
        """After a silence a remembered list is answered without asking."""
        self.list()
        self.clock.advance(100)
        self.upstream.is_hanging = True
        waiting = self.begin()
        self.clock.advance(3)
        self.successResultOf(waiting)

        self.assertEqual("mirrord; hit; ttl=-43; detail=stale-if-error", self.shown(self.list())[1])
        self.assertEqual(2, self.upstream.count("GET tags"))

    def test_denied(self) -> None:
        """A list that the upstream denies is forgotten, and not served stale later."""
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

    def test_nothing_remembered(self) -> None:
        """With nothing remembered a failure is a failure."""
        self.upstream.is_hanging = True
        waiting = self.begin()
        self.clock.advance(24)
        self.failureResultOf(waiting, UpstreamTimeout)

    def shown(self, pulled: TagListResult) -> tuple[tuple[str, ...], str]:
        return pulled.tags, str(pulled.outcome)


class ReferrerListerTests(SynchronousTestCase):
    """Lists of referrers."""

    def test_by_artifact_type(self) -> None:
        """Lists of different artifact types are apart."""
        clock, upstream, digest = Clock(), FakeUpstream(), Digest.of(b"subject")
        upstreams = {"docker.io": upstream}
        stale_if_error = StaleIfError(upstreams, clock)
        lister = MirroredReferrers(
            upstreams, ListCache(stale_if_error, 1000.0, AgedCache(clock.seconds, 100))
        )

        def listed(artifact_type: str | None) -> ReferrersResult:
            return self.successResultOf(Deferred.fromCoroutine(lister.list(UBUNTU, digest, artifact_type)))

        self.assertEqual([False, True, True], [listed(kind).is_filtered for kind in (None, "x", "x")])
        self.assertEqual(2, upstream.count("GET referrers"))


class CatalogTests(SynchronousTestCase):
    """The repositories that are held."""

    def setUp(self) -> None:
        self.index = MemoryIndex()
        for upstream, name in (("docker.io", "b"), ("docker.io", "a"), ("quay.io", "c")):
            source = RepositoryKey(upstream, RepositoryName(name))
            self.index.add_links(source, [Descriptor("", Digest.of(name.encode()), 1)])
        sources = Router.of([UpstreamRoute("docker.io", "dockerhub"), UpstreamRoute("quay.io", "quay")])
        self.catalog = MirroredCatalog(self.index, sources)

    def names(self, uri: bytes, default: str = "docker.io", last: str = "") -> list[str]:
        return [name for name, _ in self.catalog.repositories(routes.parse(uri), default, last)]

    def test_all(self) -> None:
        """Repositories of other upstreams than the listener's stand behind their prefix."""
        self.assertEqual(["a", "b", "quay/c"], self.names(b"/v2/_catalog"))
        self.assertEqual(["c", "dockerhub/a", "dockerhub/b"], self.names(b"/v2/_catalog", "quay.io"))

    def test_last(self) -> None:
        """What sorts after a name is told, whether that is before, inside or after a prefix."""
        for last, names in (
            ("a", ["b", "quay/c"]),
            ("quay", ["quay/c"]),
            ("quay/b", ["quay/c"]),
            ("quay/c", []),
            ("r", []),
        ):
            self.assertEqual(names, self.names(b"/v2/_catalog", last=last))

    def test_as_it_is_taken(self) -> None:
        """Whoever takes a few of thousands has a few pages read."""
        for number in range(1000):
            source = RepositoryKey("docker.io", RepositoryName(f"r{number:03}"))
            self.index.add_links(source, [Descriptor("", Digest.of(b"a"), 1)])
        taken = islice(self.catalog.repositories(routes.parse(b"/v2/_catalog"), "docker.io", "r5"), 60)

        self.assertEqual("r559", list(taken)[-1][0])
        self.assertGreaterEqual(101, self.index.listed)

    def test_one(self) -> None:
        """Who names an upstream sees its repositories alone."""
        self.assertEqual(["c"], self.names(b"/v2/_catalog?ns=quay.io"))
        self.assertEqual(["c"], self.names(b"/quay/v2/_catalog"))
        with self.assertRaises(NameUnknown):
            self.names(b"/v2/_catalog?ns=evil.example")
