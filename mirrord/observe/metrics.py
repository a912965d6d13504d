"""Counters and gauges, in a registry of their own: nothing here is global.

Every metric has a sample from the start (labels are created for every configured upstream), so
that an alert on its absence means something. What an upstream or a client says is never a label, so
there are as many samples as the configuration makes.
"""

from collections.abc import Callable, Iterable

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mirrord.observe.stats import StatsCollector

KINDS = ("manifest", "blob", "tags", "referrers")
"""What clients ask for."""

WAYS = ("hit", "stored", "collapsed", "asked", "partial", "revalidated", "changed", "stale", "error")
"""How it is answered: the ways of oci/cache_status.py, and error."""

HITS = frozenset({"hit", "revalidated"})
"""The ways for which no content came from the upstream; collapsed and stale are counted apart."""

MISSES = frozenset({"stored", "asked", "partial", "changed"})
"""The ways for which content came from the upstream."""

SAVING = HITS | {"collapsed", "stale"}
"""The ways of a pull that the upstream did not count."""

UPSTREAM_KINDS = ("manifest", "blob", "tags", "referrers", "token", "ping")
"""What upstreams are asked for."""

UPSTREAM_RESULTS = ("2xx", "3xx", "4xx", "429", "5xx", "failed")
"""What they answer; failed: nothing that is HTTP."""

_LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_UNKNOWN = float("nan")


@attrs.frozen
class SavedTraffic:
    """What clients had since the start and the upstreams were not asked for: pulls, and bytes."""

    pulls: int
    bytes: int


@attrs.define(eq=False)
class Metrics:
    """All that is counted. Method names say what happened."""

    registry: CollectorRegistry
    watched: StatsCollector
    _requests: Counter
    _answered_bytes: Counter
    _hits: Counter
    _misses: Counter
    _stale: Counter
    _collapsed: Counter
    _saved_pulls: Counter
    _sent_bytes: Counter
    _upstream_requests: Counter
    _upstream_bytes: Counter
    _upstream_retries: Counter
    _quota_remaining: Gauge
    _turned_away: Gauge
    _evictions: Counter
    _evicted_bytes: Counter
    _store_bytes: Gauge
    _store_entries: Gauge
    _downloads: Gauge
    _latency: Histogram
    _sent: int = attrs.field(default=0, init=False)
    _received: int = attrs.field(default=0, init=False)
    _pulls: int = attrs.field(default=0, init=False)

    @classmethod
    def for_upstreams(cls, upstreams: Iterable[str], version: str = "unknown") -> "Metrics":
        """Metrics with a sample for each of these upstreams, in a registry of their own."""
        registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mirrord_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"mirrord_{name}", text, labels, registry=registry)

        metrics = cls(
            registry,
            StatsCollector(),
            counter("requests", "Answers given to clients.", "upstream", "kind", "outcome"),
            counter(
                "answered_bytes", "Bytes of the bodies of answers that ended.", "upstream", "kind", "outcome"
            ),
            counter("hits", "Answers from what is held."),
            counter("misses", "Answers for which an upstream was asked for content."),
            counter("stale", "Answers from what is held and too old, because an upstream failed."),
            counter("collapsed", "Answers that joined what was already being fetched."),
            counter("saved_pulls", "Manifests that clients pulled and no upstream was asked for."),
            counter("sent_bytes", "Bytes of bodies sent to clients."),
            counter("upstream_requests", "Requests made to upstreams.", "upstream", "kind", "result"),
            counter("upstream_bytes", "Bytes of bodies received from upstreams.", "upstream"),
            counter("upstream_retries", "Requests made again because one before failed.", "upstream"),
            gauge("upstream_quota_remaining", "Pulls left, as the upstream says; NaN: unsaid.", "upstream"),
            gauge("upstream_turned_away", "1 while requests are turned away after failures.", "upstream"),
            counter("evictions", "Blobs and manifests evicted."),
            counter("evicted_bytes", "Bytes evicted."),
            gauge("store_bytes", "Bytes of mirrored blobs, manifests and partials on the disk."),
            gauge("store_entries", "Mirrored blobs and manifests on the disk."),
            gauge("downloads_running", "Blobs that are being downloaded."),
            Histogram(
                "mirrord_reactor_latency_seconds",
                "How late the reactor is, looked at once a second.",
                registry=registry,
                buckets=_LATENCY_BUCKETS,
            ),
        )
        gauge("build_info", "Always 1; the labels say what runs.", "version").labels(version).set(1)
        registry.register(metrics.watched)
        for upstream in upstreams:
            metrics.add_upstream(upstream)
        return metrics

    def add_upstream(self, upstream: str) -> None:
        """Have a sample for an upstream wherever there is one for each; it may have them already."""
        self._upstream_bytes.labels(upstream)
        self._upstream_retries.labels(upstream)
        self._quota_remaining.labels(upstream).set(_UNKNOWN)
        self._turned_away.labels(upstream)
        self.add_source(upstream)
        for kind in UPSTREAM_KINDS:
            for result in UPSTREAM_RESULTS:
                self._upstream_requests.labels(upstream, kind, result)

    def add_source(self, upstream: str) -> None:
        """Have a sample for what clients are answered, of an upstream or of what stands for one."""
        for kind in KINDS:
            for way in WAYS:
                self._requests.labels(upstream, kind, way)
                self._answered_bytes.labels(upstream, kind, way)

    def watch(
        self, store_bytes: Callable[[], int], store_entries: Callable[[], int], downloads: Callable[[], int]
    ) -> None:
        """Read the gauges from these whenever they are asked for."""
        self._store_bytes.set_function(store_bytes)
        self._store_entries.set_function(store_entries)
        self._downloads.set_function(downloads)

    def watch_upstream(
        self, upstream: str, quota_remaining: Callable[[], int | None], is_turned_away: Callable[[], bool]
    ) -> None:
        """Read what is to be known of an upstream from these; None where it says nothing of a quota."""

        def remaining() -> float:
            figure = quota_remaining()
            return _UNKNOWN if figure is None else figure

        self._quota_remaining.labels(upstream).set_function(remaining)
        self._turned_away.labels(upstream).set_function(is_turned_away)

    @property
    def saved(self) -> SavedTraffic:
        """What clients had and upstreams were not asked for; never less than nothing."""
        return SavedTraffic(self._pulls, max(0, self._sent - self._received))

    def answered(self, upstream: str, kind: str, way: str) -> None:
        """A client got its answer: one of WAYS."""
        self._requests.labels(upstream, kind, way).inc()
        if way in HITS:
            self._hits.inc()
        elif way in MISSES:
            self._misses.inc()
        elif way == "stale":
            self._stale.inc()
        elif way == "collapsed":
            self._collapsed.inc()

    def ended(self, upstream: str, kind: str, way: str, count: int) -> None:
        """An answer has ended, whole or not, after `count` bytes of its body."""
        self._answered_bytes.labels(upstream, kind, way).inc(count)

    def pulled(self, way: str) -> None:
        """A manifest was pulled: all of it has left."""
        if way in SAVING:
            self._pulls += 1
            self._saved_pulls.inc()

    def asked(self, upstream: str, kind: str, status: int | None) -> None:
        """An upstream was asked, and answered with `status`; None: not at all."""
        self._upstream_requests.labels(upstream, kind, _result(status)).inc()

    def retried(self, upstream: str) -> None:
        """An upstream is asked again, because the request before failed or broke off."""
        self._upstream_retries.labels(upstream).inc()

    def received(self, upstream: str, count: int) -> None:
        """An upstream sent `count` bytes of a body."""
        self._received += count
        self._upstream_bytes.labels(upstream).inc(count)

    def sent(self, count: int) -> None:
        """A client took `count` bytes of a body."""
        self._sent += count
        self._sent_bytes.inc(count)

    def evicted(self, count: int, size: int) -> None:
        """A sweep evicted `count` entries of `size` bytes together."""
        self._evictions.inc(count)
        self._evicted_bytes.inc(size)

    def late(self, seconds: float) -> None:
        """The reactor was late by so much."""
        self._latency.observe(seconds)


def _result(status: int | None) -> str:
    if status is None or not 200 <= status < 600:
        return "failed"
    return "429" if status == 429 else f"{status // 100}xx"
