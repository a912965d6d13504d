"""Tests of mirrord/upstream/client.py, over a network in memory."""

from twisted.internet.error import ConnectionRefusedError as Refused

from mirrord.oci.errors import (
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
        registry = self.client._api.wire._metrics.registry

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

    def test_last_error(self) -> None:
        """The last failure is told, and nothing in it is secret."""
        self.use(Refused())
        self.failure(self.resolve(), UpstreamUnreachable)
        self.assertIn("refuses connections", self.client.status().last_error or "")

    def test_close(self) -> None:
        """Closing ends, with nothing left behind."""
        self.use()
        self.successResultOf(self.client.close())
        self.assertEqual([], self.clock.getDelayedCalls())
