"""Tests of routing.py."""

from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci import routes
from mirrord.oci.errors import Denied, NameUnknown
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.routing import StoredRepositories, UpstreamRoute
from tests.fakes.routing import router_of
from tests.fakes.stores import TemporaryStore

ROUTER = router_of(
    UpstreamRoute("docker.io", "dockerhub"),
    UpstreamRoute("quay.io", "quay", allow=("coreos/*", "team/*"), deny=("team/secret*",)),
    UpstreamRoute("registry.lan:5000"),
)


def locate(uri: str, default: str = "docker.io") -> str:
    return str(ROUTER.locate_key(routes.parse(uri.encode()), default))


class LocateTests(SynchronousTestCase):
    """The upstream and the repository that a request means."""

    def test_layouts(self) -> None:
        """Every layout that clients use finds its upstream and repository."""
        for uri, key in (
            ("/v2/library/ubuntu/tags/list", "docker.io/library/ubuntu"),
            ("/v2/coreos/etcd/tags/list?ns=quay.io", "quay.io/coreos/etcd"),
            ("/quay/v2/coreos/etcd/tags/list", "quay.io/coreos/etcd"),
            ("/v2/quay/coreos/etcd/tags/list", "quay.io/coreos/etcd"),
            ("/v2/quay/coreos/etcd/tags/list?ns=quay.io", "quay.io/coreos/etcd"),
            ("/quay/v2/coreos/etcd/tags/list?ns=quay.io", "quay.io/coreos/etcd"),
            ("/v2/app/tags/list?ns=registry.lan:5000", "registry.lan:5000/app"),
            ("/v2/library/ubuntu/tags/list?ns=registry-1.docker.io", "docker.io/library/ubuntu"),
            ("/v2/library/ubuntu/tags/list?ns=index.docker.io", "docker.io/library/ubuntu"),
        ):
            self.assertEqual(key, locate(uri), uri)

    def test_namespace_wins(self) -> None:
        """With `ns` first, a prefix of another upstream is part of the repository's name."""
        self.assertEqual("docker.io/quay/x", locate("/v2/quay/x/tags/list?ns=docker.io"))

    def test_contradiction(self) -> None:
        """A prefix before /v2/ that contradicts `ns` is unknown."""
        with self.assertRaises(NameUnknown):
            locate("/quay/v2/x/tags/list?ns=docker.io")

    def test_unknown(self) -> None:
        """An unknown registry or prefix is unknown at once."""
        for uri in ("/v2/x/tags/list?ns=evil.example", "/evil/v2/x/tags/list", "/v2/x/tags/list?ns="):
            with self.assertRaises(NameUnknown):
                locate(uri)

    def test_default_of_the_listener(self) -> None:
        """Without `ns` and prefix, the listener's own upstream is meant."""
        self.assertEqual("registry.lan:5000/a/b", locate("/v2/a/b/tags/list", "registry.lan:5000"))

    def test_official_images(self) -> None:
        """`library/` is added only to names behind a prefix, which people type."""
        for uri, key in (
            ("/v2/dockerhub/ubuntu/tags/list", "docker.io/library/ubuntu"),
            ("/dockerhub/v2/ubuntu/tags/list", "docker.io/library/ubuntu"),
            ("/v2/dockerhub/grafana/loki/tags/list", "docker.io/grafana/loki"),
            ("/v2/ubuntu/tags/list", "docker.io/ubuntu"),
        ):
            self.assertEqual(key, locate(uri), uri)

    def test_a_repository_called_like_a_prefix(self) -> None:
        """A repository that is called like a prefix keeps its name."""
        self.assertEqual("docker.io/quay", locate("/v2/quay/tags/list"))

    def test_allow_and_deny(self) -> None:
        """A repository that is denied, or not allowed, is rejected."""
        self.assertEqual("quay.io/team/app", locate("/quay/v2/team/app/tags/list"))
        for uri in ("/quay/v2/team/secrets/tags/list", "/quay/v2/other/app/tags/list"):
            with self.assertRaises(Denied):
                locate(uri)

    def test_same_name(self) -> None:
        """The same name at two upstreams is two repositories."""
        one = ROUTER.locate_key(routes.parse(b"/v2/coreos/etcd/tags/list?ns=quay.io"), "docker.io")
        two = ROUTER.locate_key(routes.parse(b"/v2/coreos/etcd/tags/list"), "docker.io")
        self.assertIsInstance(one, RepositoryKey)
        self.assertNotEqual(one, two)


class ResolveScopeTests(SynchronousTestCase):
    """The repositories that a name in the scope of a token can mean."""

    def resolve_scope(self, name: str, *hosted_patterns: str) -> set[str]:
        router = router_of(
            UpstreamRoute("docker.io", "dockerhub"),
            UpstreamRoute("quay.io", "quay"),
            hosted_patterns=hosted_patterns,
        )
        return {str(each) for each in router.resolve_scope(RepositoryName(name))}

    def test_plain(self) -> None:
        """A name can be any upstream's, by ns; a single one at Docker Hub is an official image's too."""
        self.assertEqual(self.resolve_scope("a/b"), {"docker.io/a/b", "quay.io/a/b"})
        self.assertEqual(self.resolve_scope("a"), {"docker.io/a", "docker.io/library/a", "quay.io/a"})

    def test_prefixed(self) -> None:
        """A name that begins with a prefix can be one without it at that upstream."""
        self.assertIn("quay.io/a/b", self.resolve_scope("quay/a/b"))
        self.assertIn("docker.io/library/a", self.resolve_scope("dockerhub/a"))

    def test_hosted(self) -> None:
        """A hosted name can still be an upstream's, by ns."""
        self.assertEqual(
            self.resolve_scope("team/a", "team/*"), {"hosted/team/a", "docker.io/team/a", "quay.io/team/a"}
        )

    def test_hosted_behind_a_prefix(self) -> None:
        """A name that begins with a prefix means no hosted repository, since the prefix wins."""
        self.assertIn("hosted/a/b", self.resolve_scope("a/b", "*"))
        self.assertNotIn("hosted/quay/a", self.resolve_scope("quay/a", "*"))


class CatalogTests(SynchronousTestCase):
    """The catalog of stored repositories."""

    def setUp(self) -> None:
        self.listed = 0
        self.store = TemporaryStore.of(self)
        for upstream, name in (("docker.io", "b"), ("docker.io", "a"), ("quay.io", "c")):
            self.cache(upstream, name)
        self.store.flush()
        self.router = router_of(
            UpstreamRoute("docker.io", "dockerhub"),
            UpstreamRoute("quay.io", "quay"),
            stored=StoredRepositories(
                of_upstream=self.of_upstream,
                hosted=self.hosted,
                mirrored=lambda: iter(()),
                has_hosted=lambda name: name.name == "team/app",
            ),
        )

    def cache(self, upstream: str, name: str) -> None:
        key = RepositoryKey(upstream, RepositoryName(name))
        self.store.opened.index.manifest_stored(key, Manifest.parse(b'{"layers": []}', None))

    def of_upstream(self, upstream: str, after: str, limit: int) -> list[tuple[RepositoryName, bool]]:
        found = self.store.opened.index.repositories(upstream, after, limit)
        self.listed += len(found)
        return found

    def hosted(self, after: str, limit: int) -> list[RepositoryName]:
        return [RepositoryName("team/app")][:limit] if after < "team/app" else []

    def names(self, uri: bytes, default: str = "docker.io", last: str = "") -> list[str]:
        return [name for name, _ in self.router.catalog(routes.parse(uri), default, last)]

    def test_all(self) -> None:
        """Repositories of other upstreams than the listener's stand behind their prefix."""
        self.assertEqual(["a", "b", "quay/c", "team/app"], self.names(b"/v2/_catalog"))
        self.assertEqual(
            ["c", "dockerhub/a", "dockerhub/b", "team/app"], self.names(b"/v2/_catalog", "quay.io")
        )

    def test_last(self) -> None:
        """The names after `last` are listed, whether it is before, inside or after a prefix."""
        for last, names in (
            ("a", ["b", "quay/c", "team/app"]),
            ("quay", ["quay/c", "team/app"]),
            ("quay/b", ["quay/c", "team/app"]),
            ("quay/c", ["team/app"]),
            ("team/app", []),
        ):
            self.assertEqual(names, self.names(b"/v2/_catalog", last=last))

    def test_lazy(self) -> None:
        """Only the pages that are consumed are read."""
        for number in range(1000):
            self.cache("docker.io", f"r{number:03}")
        self.store.flush()
        names = islice(self.router.catalog(routes.parse(b"/v2/_catalog"), "docker.io", "r5"), 60)

        self.assertEqual("r559", list(names)[-1][0])
        self.assertGreaterEqual(101, self.listed)

    def test_one(self) -> None:
        """With `ns` or a prefix, only the repositories of that upstream are listed."""
        self.assertEqual(["c"], self.names(b"/v2/_catalog?ns=quay.io"))
        self.assertEqual(["c"], self.names(b"/quay/v2/_catalog"))
        with self.assertRaises(NameUnknown):
            self.names(b"/v2/_catalog?ns=evil.example")
