"""Tests of mirrord/upstream/client.py, over a network in memory."""

from twisted.internet.error import ConnectionRefusedError as Refused

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
    def test_quota(self) -> None:
        """The quota of the last answer that told one is kept."""
        self.use(Reply(200, {**HEAD.headers, "ratelimit-remaining": "76;w=21600"}), HEAD)
        self.assertEqual("unknown", str(self.client.status().quota))
        self.result(self.resolve())
        self.result(self.resolve())
        self.assertEqual(76, self.client.status().quota.remaining)

    def test_metrics(self) -> None:
        """Every request is counted by what it was for and how it ended."""
        self.use(challenge(), token(), Reply(307, {"Location": CDN}), Reply(200, {}, b"blob"), Refused())
        self.result(self.blob())
        self.failure(self.resolve(), UpstreamUnreachable)
        registry = self.client._api.transport._metrics.registry

        def count(kind: str, result: str) -> float | None:
            labels = {"upstream": "registry.example", "kind": kind, "result": result}
            return registry.get_sample_value("mirrord_upstream_requests_total", labels)

        self.assertEqual(
            [1, 1, 1, 1, 1],
            [
                count("blob", "4xx"),
                count("token", "2xx"),
                count("blob", "3xx"),
                count("blob", "2xx"),
                count("manifest", "failed"),
            ],
        )

    def test_strange_status(self) -> None:
        """A status that HTTP does not have is counted as a failure, not under a name of its own."""
        self.use(Reply(700), Reply(199))
        self.failure(self.resolve(), UpstreamRefused)
        self.failure(self.resolve(), UpstreamRefused)
        labels = {"upstream": "registry.example", "kind": "manifest", "result": "failed"}
        registry = self.client._api.transport._metrics.registry
        self.assertEqual(2, registry.get_sample_value("mirrord_upstream_requests_total", labels))

    def test_last_error(self) -> None:
        """The last failure is told, and how long ago it was, also when all is well again."""
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
        """Closing ends, with nothing left behind."""
        self.use()
        self.successResultOf(self.client.close())
        self.assertEqual([], self.clock.getDelayedCalls())
