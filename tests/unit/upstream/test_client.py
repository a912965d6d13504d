"""Tests of mirrord/upstream/client.py, over a network in memory."""

from twisted.internet.error import ConnectionRefusedError as Refused

from mirrord.observe.metrics import Metrics
from mirrord.oci.errors import (
    UpstreamBusy,
    UpstreamRefused,
    UpstreamUnreachable,
)
from tests.unit.upstream.cases import CDN, HEAD, ClientTestCase
from tests.unit.upstream.scripted import (
    Reply,
    challenge,
    token,
)


class StatusTests(ClientTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics(["registry.example"])

    def count(self, kind: str, result: str) -> float | None:
        labels = {"upstream": "registry.example", "kind": kind, "result": result}
        return self.metrics.registry.get_sample_value("mirrord_upstream_requests_total", labels)

    def test_quota(self) -> None:
        """The quota of the last response with one is kept."""
        self.use(Reply(200, {**HEAD.headers, "ratelimit-remaining": "76;w=21600"}), HEAD)
        self.assertEqual("unknown", str(self.client.status().quota))
        self.result(self.resolve())
        self.result(self.resolve())
        self.assertEqual(76, self.client.status().quota.remaining)

    def test_metrics(self) -> None:
        """Every request is counted by its kind and result."""
        blob = [Reply(307, {"Location": CDN}), Reply(200, {}, b"blob")]
        self.use(challenge(), token(), *blob, Refused(), metrics=self.metrics)
        self.result(self.blob())
        self.failure(self.resolve(), UpstreamUnreachable)
        self.assertEqual([1, 1, 1], [self.count("blob", result) for result in ("4xx", "3xx", "2xx")])
        self.assertEqual([1, 1], [self.count("token", "2xx"), self.count("manifest", "failed")])

    def test_invalid_status(self) -> None:
        """A status that is invalid in HTTP is counted as a failure, not with a label of its own."""
        self.use(Reply(700), Reply(199), metrics=self.metrics)
        self.failure(self.resolve(), UpstreamRefused)
        self.failure(self.resolve(), UpstreamRefused)
        self.assertEqual(2, self.count("manifest", "failed"))

    def test_last_error(self) -> None:
        """The last failure and its age are reported, also after recovery."""
        self.use(Refused(), HEAD, Reply(429))
        self.assertIsNone(self.client.status().last_error_seconds_ago)
        self.failure(self.resolve(), UpstreamUnreachable)
        self.clock.advance(60)
        self.result(self.resolve())
        status = self.client.status()
        self.assertEqual(60, status.last_error_seconds_ago)
        self.assertIn("connection refused", status.last_error or "")

        self.failure(self.resolve(), UpstreamBusy)
        status = self.client.status()
        self.assertEqual(0, status.last_error_seconds_ago)
        self.assertIn("429", status.last_error or "")

    def test_close(self) -> None:
        """Closing ends without delayed calls."""
        self.use()
        self.successResultOf(self.client.close())
        self.assertEqual([], self.clock.getDelayedCalls())
