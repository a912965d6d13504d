"""The base classes of the tests of the API: a client, a site and a root in memory."""

import json
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.authenticator import Authenticator
from mirrord.api.root import RegistryRoot
from mirrord.http.page_cache import PageCache
from mirrord.http.site import MirrorSite
from mirrord.last_clients import LastClients
from mirrord.observe.metrics import Metrics
from tests.fakes.clock import ImmediateClock
from tests.fakes.cold import ColdPages
from tests.fakes.fake_repositories import FakeRepositories
from tests.fakes.repositories import HUB, QUAY, Repositories
from tests.fakes.stores import TemporaryStore
from tests.fakes.wire import Client, Got


class APICase(SynchronousTestCase):
    """A client of a mirror whose own upstream is docker.io, with fake repositories behind it."""

    def setUp(self) -> None:
        self.repositories = self.make_repositories()
        self.is_debugging = True
        self.metrics = Metrics([HUB, QUAY])
        self.pages = ColdPages(warm_bytes=1 << 40)
        self.last_clients = LastClients(lambda: 0.0)
        self.authenticator: Authenticator | None = None
        self.root = self.make_root()
        self.clock = Clock()
        self.site = MirrorSite(self.clock, self.root)
        self.client = Client(self.site)
        self.wire = self.client.wire

    def make_repositories(self) -> FakeRepositories:
        return FakeRepositories()

    def make_root(self) -> RegistryRoot:
        """Return a root with the current authenticator."""
        return self.repositories.root(
            self.authenticator,
            metrics=self.metrics,
            pages=cast("PageCache", self.pages),
            last_clients=self.last_clients,
            is_debugging=lambda: self.is_debugging,
        )

    def get(self, path: str, *headers: str, method: str = "GET") -> Got:
        return self.client.get(path, *headers, method=method)

    def assert_error(self, got: Got, status: int, code: str) -> None:
        """Check that a response is the specification's error document."""
        self.assertEqual((status, "application/json"), (got.status, got.headers["content-type"]))
        self.assertEqual("registry/2.0", got.headers["docker-distribution-api-version"])
        (error,) = json.loads(got.body)["errors"]
        self.assertEqual(code, error["code"])
        self.assertEqual({"code", "message", "detail"}, set(error))

    def counted(self, kind: str, outcome: str, upstream: str = HUB) -> float | None:
        labels = {"upstream": upstream, "kind": kind, "outcome": outcome}
        return self.metrics.registry.get_sample_value("mirrord_requests_total", labels)

    @property
    def sent(self) -> float | None:
        return self.metrics.registry.get_sample_value("mirrord_sent_bytes_total")


class HostedAPICase(APICase):
    """The same, with real hosted repositories beside the fake mirrored ones."""

    def make_repositories(self) -> FakeRepositories:
        self.store = TemporaryStore.of(self)
        self.hosted_clock = ImmediateClock()
        self.hosted = Repositories(case=self, store=self.store, clock=self.hosted_clock)
        return FakeRepositories(hosted=self.hosted)
