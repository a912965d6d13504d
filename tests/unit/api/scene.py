"""A mirror's front in memory: a client, a site, a root, and fakes behind it."""

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
from tests.fakes.cold import ColdPages
from tests.fakes.pulling import HUB, QUAY, FakePulling
from tests.fakes.wire import Client, Got


class SceneCase(SynchronousTestCase):
    """One client before one mirror whose own upstream is docker.io."""

    def setUp(self) -> None:
        self.pulling = FakePulling()
        self.is_debugging = True
        self.metrics = Metrics([HUB, QUAY])
        self.pages = ColdPages(warm_bytes=1 << 40)
        self.visits = LastClients(lambda: 0.0)
        self.gate: Authenticator | None = None
        self.root = self.make_root()
        self.clock = Clock()
        self.site = MirrorSite(self.clock, self.root)
        self.client = Client(self.site)
        self.wire = self.client.wire

    def make_root(self) -> RegistryRoot:
        """A root over the fakes, behind the gate as it is now."""
        return self.pulling.root(
            self.gate,
            metrics=self.metrics,
            pages=cast("PageCache", self.pages),
            last_clients=self.visits,
            is_debugging=lambda: self.is_debugging,
        )

    def get(self, path: str, *headers: str, method: str = "GET") -> Got:
        return self.client.get(path, *headers, method=method)

    def assert_error(self, got: Got, status: int, code: str) -> None:
        """It is the spec's document, and nothing else."""
        self.assertEqual((status, "application/json"), (got.status, got.headers["content-type"]))
        self.assertEqual("registry/2.0", got.headers["docker-distribution-api-version"])
        (complaint,) = json.loads(got.body)["errors"]
        self.assertEqual(code, complaint["code"])
        self.assertEqual({"code", "message", "detail"}, set(complaint))

    def counted(self, kind: str, way: str, upstream: str = HUB) -> float | None:
        labels = {"upstream": upstream, "kind": kind, "outcome": way}
        return self.metrics.registry.get_sample_value("mirrord_requests_total", labels)

    @property
    def sent(self) -> float | None:
        return self.metrics.registry.get_sample_value("mirrord_sent_bytes_total")
