"""Tests of mirrord/observe/metrics.py."""

import math

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.metrics import HITS, MISSES, OUTCOMES, CertificateExpiry, Metrics, SavedTraffic
from mirrord.oci.cache_status import CacheStatus

HUB, QUAY = "docker.io", "quay.io"
_STATS = ("hosted_bytes", "hosted_entries", "uploads_open", "logins_failed_total", "quarantine_entries")


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics([HUB, QUAY], "1.2")

    def value(self, name: str, /, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"mirrord_{name}", labels)

    def test_from_the_start(self) -> None:
        """Every metric has a sample before anything has happened, and one for each configured upstream."""
        for family in self.metrics.registry.collect():
            self.assertTrue(family.samples, family.name)
            upstreams = {sample.labels.get("upstream") for sample in family.samples}
            self.assertIn(upstreams, ({None}, {HUB, QUAY}), family.name)

    def test_parsers(self) -> None:
        """The exposition is parsed back by both parsers of Prometheus, family by family."""
        self.metrics.stats.certificates = lambda: [CertificateExpiry('tcp:443:"x"', "a\\b\nc", 5.0)]
        plain = generate_latest(self.metrics.registry).decode()
        modern = generate_openmetrics(self.metrics.registry).decode()
        own = {family.name: family for family in self.metrics.registry.collect()}
        parsed = {family.name: family for family in parse_openmetrics(modern)}
        self.assertEqual(set(own), set(parsed))
        for name, family in own.items():
            self.assertEqual(family.type, parsed[name].type)
            self.assertEqual(_samples(family), _samples(parsed[name]))
        read = {family.name.removesuffix("_total") for family in parse_text(plain)}
        self.assertLessEqual(set(own), read)

    def test_outcomes(self) -> None:
        """Every outcome is counted, as a hit, a miss, stale or collapsed, and never as two."""
        self.assertEqual(set(OUTCOMES), {way.value for way in CacheStatus} | {"error"})
        self.assertEqual(set(OUTCOMES) - HITS - MISSES, {"stale", "collapsed", "error"})
        self.assertFalse(HITS & MISSES)
        for outcome in OUTCOMES:
            self.metrics.responded(HUB, "blob", outcome)
            self.assertEqual(1.0, self.value("requests_total", upstream=HUB, kind="blob", outcome=outcome))
        counts = [self.value(f"{name}_total") for name in ("hits", "misses", "stale", "collapsed")]
        self.assertEqual([2.0, 4.0, 1.0, 1.0], counts)

    def test_bytes(self) -> None:
        """Bytes are counted by upstream, kind and outcome when a response has ended."""
        self.metrics.response_ended(QUAY, "manifest", "hit", 500)
        self.metrics.response_ended(QUAY, "manifest", "hit", 7)
        found = self.value("answered_bytes_total", upstream=QUAY, kind="manifest", outcome="hit")
        self.assertEqual(507.0, found)

    def test_saved(self) -> None:
        """Saved are pulls without a request to an upstream, and bytes sent but not received."""
        for outcome in OUTCOMES:
            self.metrics.pulled(outcome)
        self.metrics.received(HUB, 100)
        self.metrics.sent(60)
        self.assertEqual(SavedTraffic(4, 0), self.metrics.saved)
        self.metrics.sent(60)
        self.assertEqual(SavedTraffic(4, 20), self.metrics.saved)
        self.assertEqual(4.0, self.value("saved_pulls_total"))

    def test_upstream(self) -> None:
        """A quota is NaN until it is known; watched gauges are read whenever they are collected."""
        quota: list[int | None] = [None]
        is_open = [False]
        self.assertTrue(math.isnan(self.value("upstream_quota_remaining", upstream=HUB) or 0))
        self.metrics.watch_upstream(HUB, lambda: quota[0], lambda: is_open[0])
        self.assertTrue(math.isnan(self.value("upstream_quota_remaining", upstream=HUB) or 0))
        self.assertEqual(0.0, self.value("upstream_turned_away", upstream=HUB))
        quota[0], is_open[0] = 0, True
        self.assertEqual(0.0, self.value("upstream_quota_remaining", upstream=HUB))
        self.assertEqual(1.0, self.value("upstream_turned_away", upstream=HUB))

    def test_added(self) -> None:
        """An upstream that is added later has its samples from then on, and loses none if added again."""
        self.metrics.add_upstream("ghcr.io")
        self.metrics.retried("ghcr.io")
        self.metrics.add_upstream("ghcr.io")
        self.assertEqual(1.0, self.value("upstream_retries_total", upstream="ghcr.io"))
        self.assertEqual(0.0, self.value("upstream_bytes_total", upstream="ghcr.io"))

    def test_results(self) -> None:
        """Upstream responses are counted by class, 429 apart, and anything but HTTP as failed."""
        for status, result in ((200, "2xx"), (307, "3xx"), (404, "4xx"), (429, "429"), (503, "5xx")):
            self.metrics.upstream_responded(HUB, "blob", status)
            self.assertEqual(
                1.0, self.value("upstream_requests_total", upstream=HUB, kind="blob", result=result)
            )
        for strange in (None, 100, 999):
            self.metrics.upstream_responded(HUB, "blob", strange)
        self.assertEqual(
            3.0, self.value("upstream_requests_total", upstream=HUB, kind="blob", result="failed")
        )

    def test_certificates(self) -> None:
        """Every certificate has its expiry; without any there is one sample, which is NaN."""
        self.assertTrue(math.isnan(self.value("certificate_expiry_seconds", listener="", name="") or 0))
        self.metrics.stats.certificates = lambda: [CertificateExpiry("tcp:443", "mirror.lan", 5.0)]
        self.assertEqual(5.0, self.value("certificate_expiry_seconds", listener="tcp:443", name="mirror.lan"))
        self.assertIsNone(self.value("certificate_expiry_seconds", listener="", name=""))

    def test_latency_and_drops(self) -> None:
        """Latency is a histogram; the number of dropped lines is read when collected."""
        self.metrics.reactor_delayed(0.02)
        self.metrics.stats.log_dropped = lambda: 3
        self.assertEqual(1.0, self.value("reactor_latency_seconds_bucket", le="0.025"))
        self.assertEqual(0.0, self.value("reactor_latency_seconds_bucket", le="0.01"))
        self.assertEqual(3.0, self.value("log_dropped_total"))

    def test_hosted(self) -> None:
        """Figures of hosted repositories are read when collected; the version is a label."""
        stats = self.metrics.stats
        self.assertEqual([0.0] * 5, [self.value(name) for name in _STATS])
        stats.hosted_bytes, stats.hosted_entries = lambda: 1, lambda: 2
        stats.uploads, stats.logins_failed = lambda: 3, lambda: 4
        stats.quarantine_entries = lambda: 5
        self.assertEqual([1.0, 2.0, 3.0, 4.0, 5.0], [self.value(name) for name in _STATS])
        self.assertEqual(1.0, self.value("build_info", version="1.2"))


def _samples(family: Metric) -> set[tuple[str, str, str]]:
    return {
        (sample.name, repr(sorted(sample.labels.items())), repr(float(sample.value)))
        for sample in family.samples
    }
