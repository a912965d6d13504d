"""Tests of mirrord/upstream/quota.py."""

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from mirrord.upstream.quota import Quota


class QuotaTests(SynchronousTestCase):
    def test_docker_hub(self) -> None:
        """The figures of Docker Hub are parsed with their window and source."""
        headers = Headers(
            {
                "ratelimit-limit": ["100;w=21600"],
                "ratelimit-remaining": ["76;w=21600"],
                "docker-ratelimit-source": ["192.0.2.1"],
            }
        )
        quota = Quota.parse(headers)
        self.assertEqual(Quota(limit=100, remaining=76, window_seconds=21600, source="192.0.2.1"), quota)
        self.assertEqual("76 of 100", str(quota))

    def test_unknown(self) -> None:
        """A missing or invalid figure is unknown, not zero."""
        self.assertIsNone(Quota.parse(Headers()))
        self.assertIsNone(Quota.parse(Headers({"ratelimit-limit": ["lots"]})))
        self.assertEqual("unknown", str(Quota()))
