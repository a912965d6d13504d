"""Counters and gauges, in a registry of their own: nothing here is global.

Every metric has a sample from the start (the labels of every configured upstream are created), so that an
alert on its absence means something. Nothing that an upstream or a client sends is a label, so the number of
samples depends on the configuration alone.
"""

from collections.abc import Callable, Iterable, Iterator

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

KINDS = ("manifest", "blob", "tags", "referrers")
"""The kinds of clients' requests."""

OUTCOMES = ("hit", "stored", "collapsed", "asked", "partial", "revalidated", "changed", "stale", "error")
"""How requests are answered: the values of oci.cache_status.CacheStatus, and error."""

HITS = frozenset({"hit", "revalidated"})
"""Outcomes without content from the upstream; collapsed and stale are counted apart."""

MISSES = frozenset({"stored", "asked", "partial", "changed"})
"""Outcomes with content from the upstream."""

SAVING = HITS | {"collapsed", "stale"}
"""Outcomes of pulls that the upstream did not count."""

UPSTREAM_KINDS = ("manifest", "blob", "tags", "referrers", "token", "ping")
"""The kinds of requests to upstreams."""

UPSTREAM_RESULTS = ("2xx", "3xx", "4xx", "429", "5xx", "failed")
"""How upstreams respond; failed: no HTTP response."""

_LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_UNKNOWN = float("nan")


@attrs.frozen
class SavedTraffic:
    """Pulls and bytes that clients received without the upstreams since the start."""

    pulls: int
    bytes: int


@attrs.frozen
class CertificateExpiry:
    """When a certificate of a listener expires, in Unix seconds; `name` is the first of its names."""

    listener: str
    name: str
    at: float


@attrs.define(eq=False)
class StatsCollector(Collector):
    """Metrics that are not counted here, but read from the callables whenever they are collected."""

    log_dropped: Callable[[], int] = lambda: 0
    certificates: Callable[[], Iterable[CertificateExpiry]] = tuple
    hosted_bytes: Callable[[], int] = lambda: 0
    hosted_entries: Callable[[], int] = lambda: 0
    quarantine_entries: Callable[[], int] = lambda: 0
    uploads: Callable[[], int] = lambda: 0
    logins_failed: Callable[[], int] = lambda: 0
    downloads_waiting: Callable[[], int] = lambda: 0
    downloads_parked: Callable[[], int] = lambda: 0

    def collect(self) -> Iterator[Metric]:
        """Iterate over the present values; without a certificate there is one sample, which is NaN."""
        yield CounterMetricFamily(
            "mirrord_log_dropped",
            "Log lines dropped because the output was too slow.",
            value=self.log_dropped(),
        )
        expiry = GaugeMetricFamily(
            "mirrord_certificate_expiry_seconds",
            "When a certificate expires, in Unix seconds.",
            labels=("listener", "name"),
        )
        for found in tuple(self.certificates()) or (CertificateExpiry("", "", _UNKNOWN),):
            expiry.add_metric((found.listener, found.name), found.at)
        yield expiry
        yield GaugeMetricFamily(
            "mirrord_hosted_bytes",
            "Bytes of hosted blobs, manifests and open uploads on the disk.",
            value=self.hosted_bytes(),
        )
        yield GaugeMetricFamily(
            "mirrord_hosted_entries", "Hosted blobs and manifests on the disk.", value=self.hosted_entries()
        )
        yield GaugeMetricFamily(
            "mirrord_quarantine_entries",
            "Files of hosted content in quarantine.",
            value=self.quarantine_entries(),
        )
        yield GaugeMetricFamily("mirrord_uploads_open", "Unfinished blob uploads.", value=self.uploads())
        yield CounterMetricFamily(
            "mirrord_logins_failed", "Logins with a wrong user or password.", value=self.logins_failed()
        )
        yield GaugeMetricFamily(
            "mirrord_downloads_waiting",
            "Downloads that wait until fewer are running.",
            value=self.downloads_waiting(),
        )
        yield CounterMetricFamily(
            "mirrord_downloads_parked",
            "Downloads interrupted for others, to be resumed by a later request.",
            value=self.downloads_parked(),
        )


class Metrics:
    """All metrics of a daemon. Methods are named after the event that they count."""

    def __init__(self, upstreams: Iterable[str] = (), version: str = "unknown") -> None:
        self.registry = CollectorRegistry()
        self.stats = StatsCollector()
        self._sent_total = self._received_total = self._pulls_total = 0
        self._requests = self._counter("requests", "Responses to clients.", "upstream", "kind", "outcome")
        self._answered_bytes = self._counter(
            "answered_bytes", "Bytes of the bodies of finished responses.", "upstream", "kind", "outcome"
        )
        self._hits = self._counter("hits", "Responses from the cache.")
        self._misses = self._counter("misses", "Responses with content requested from an upstream.")
        self._stale = self._counter("stale", "Stale responses from the cache because an upstream failed.")
        self._collapsed = self._counter("collapsed", "Responses that joined a running download.")
        self._saved_pulls = self._counter(
            "saved_pulls", "Manifests that clients pulled without a pull from an upstream."
        )
        self._sent_bytes = self._counter("sent_bytes", "Bytes of bodies sent to clients.")
        self._upstream_requests = self._counter(
            "upstream_requests", "Requests to upstreams.", "upstream", "kind", "result"
        )
        self._upstream_bytes = self._counter(
            "upstream_bytes", "Bytes of bodies received from upstreams.", "upstream"
        )
        self._upstream_retries = self._counter(
            "upstream_retries", "Requests retried after a failure.", "upstream"
        )
        self._quota_remaining = self._gauge(
            "upstream_quota_remaining", "Remaining pulls as reported by the upstream, or NaN.", "upstream"
        )
        self._turned_away = self._gauge(
            "upstream_turned_away", "1 while the circuit breaker is open.", "upstream"
        )
        self._evictions = self._counter("evictions", "Blobs and manifests evicted.")
        self._evicted_bytes = self._counter("evicted_bytes", "Bytes evicted.")
        self._store_bytes = self._gauge(
            "store_bytes", "Bytes of mirrored blobs, manifests and partials on the disk."
        )
        self._store_entries = self._gauge("store_entries", "Mirrored blobs and manifests on the disk.")
        self._downloads = self._gauge("downloads_running", "Running downloads of blobs.")
        self._latency = Histogram(
            "mirrord_reactor_latency_seconds",
            "Delay of the reactor, measured once a second.",
            registry=self.registry,
            buckets=_LATENCY_BUCKETS,
        )
        self._gauge("build_info", "Always 1; labelled with the version.", "version").labels(version).set(1)
        self.registry.register(self.stats)
        for upstream in upstreams:
            self.add_upstream(upstream)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mirrord_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"mirrord_{name}", text, labels, registry=self.registry)

    def add_upstream(self, upstream: str) -> None:
        """Create all samples of an upstream; those that exist keep their values."""
        self._upstream_bytes.labels(upstream)
        self._upstream_retries.labels(upstream)
        self._quota_remaining.labels(upstream).set(_UNKNOWN)
        self._turned_away.labels(upstream)
        self.add_responses(upstream)
        for kind in UPSTREAM_KINDS:
            for result in UPSTREAM_RESULTS:
                self._upstream_requests.labels(upstream, kind, result)

    def add_responses(self, upstream: str) -> None:
        """Create the samples of responses for an upstream, or for the name that stands for one."""
        for kind in KINDS:
            for outcome in OUTCOMES:
                self._requests.labels(upstream, kind, outcome)
                self._answered_bytes.labels(upstream, kind, outcome)

    def watch_store(
        self, store_bytes: Callable[[], int], store_entries: Callable[[], int], downloads: Callable[[], int]
    ) -> None:
        """Read the gauges of the store from these callables whenever they are collected."""
        self._store_bytes.set_function(store_bytes)
        self._store_entries.set_function(store_entries)
        self._downloads.set_function(downloads)

    def watch_upstream(
        self, upstream: str, quota_remaining: Callable[[], int | None], is_open: Callable[[], bool]
    ) -> None:
        """Read the gauges of an upstream from these callables; None if it reports no quota."""

        def remaining() -> float:
            quota = quota_remaining()
            return _UNKNOWN if quota is None else quota

        self._quota_remaining.labels(upstream).set_function(remaining)
        self._turned_away.labels(upstream).set_function(is_open)

    @property
    def saved(self) -> SavedTraffic:
        """Return what clients received without the upstreams; never negative."""
        return SavedTraffic(self._pulls_total, max(0, self._sent_total - self._received_total))

    def responded(self, upstream: str, kind: str, outcome: str) -> None:
        """Count a response to a client, with one of OUTCOMES."""
        self._requests.labels(upstream, kind, outcome).inc()
        if outcome in HITS:
            self._hits.inc()
        elif outcome in MISSES:
            self._misses.inc()
        elif outcome == "stale":
            self._stale.inc()
        elif outcome == "collapsed":
            self._collapsed.inc()

    def response_ended(self, upstream: str, kind: str, outcome: str, count: int) -> None:
        """Count the `count` bytes of the body of a response that ended, complete or not."""
        self._answered_bytes.labels(upstream, kind, outcome).inc(count)

    def pulled(self, outcome: str) -> None:
        """Count a pull: a manifest that was sent completely."""
        if outcome in SAVING:
            self._pulls_total += 1
            self._saved_pulls.inc()

    def upstream_responded(self, upstream: str, kind: str, status: int | None) -> None:
        """Count a request to an upstream with the status of its response; None without one."""
        self._upstream_requests.labels(upstream, kind, _result(status)).inc()

    def retried(self, upstream: str) -> None:
        """Count a request to an upstream that is repeated because the one before failed or broke off."""
        self._upstream_retries.labels(upstream).inc()

    def received(self, upstream: str, count: int) -> None:
        """Count bytes of a body from an upstream."""
        self._received_total += count
        self._upstream_bytes.labels(upstream).inc(count)

    def sent(self, count: int) -> None:
        """Count bytes of a body to a client."""
        self._sent_total += count
        self._sent_bytes.inc(count)

    def evicted(self, count: int, size: int) -> None:
        """Count `count` evicted entries of `size` bytes together."""
        self._evictions.inc(count)
        self._evicted_bytes.inc(size)

    def reactor_delayed(self, seconds: float) -> None:
        """Observe how late the reactor was."""
        self._latency.observe(seconds)


def _result(status: int | None) -> str:
    if status is None or not 200 <= status < 600:
        return "failed"
    return "429" if status == 429 else f"{status // 100}xx"
