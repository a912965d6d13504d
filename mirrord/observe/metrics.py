"""Counters and gauges, in a registry of their own: nothing here is global.

Every metric has a sample from the start (labels are created for every configured upstream), so
that an alert on its absence means something.
"""

from collections.abc import Callable, Iterable

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge

KINDS = ("manifest", "blob", "tags", "referrers")
"""What clients ask for."""

WAYS = ("hit", "stored", "collapsed", "asked", "partial", "revalidated", "changed", "stale", "error")
"""How it is answered: the ways of pull/outcome.py, and error."""

UPSTREAM_KINDS = ("manifest", "blob", "tags", "referrers", "token", "ping")
"""What upstreams are asked for."""

UPSTREAM_RESULTS = ("2xx", "3xx", "4xx", "429", "5xx", "failed")
"""What they answer; failed: nothing that is HTTP."""


@attrs.define(eq=False)
class Metrics:
    """All that is counted. Method names say what happened."""

    registry: CollectorRegistry
    _requests: Counter
    _upstream_requests: Counter
    _upstream_bytes: Counter
    _sent_bytes: Counter
    _evictions: Counter
    _evicted_bytes: Counter
    _store_bytes: Gauge
    _store_entries: Gauge
    _downloads: Gauge

    @classmethod
    def for_upstreams(cls, upstreams: Iterable[str]) -> "Metrics":
        """Metrics with a sample for each of these upstreams, in a registry of their own."""
        registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mirrord_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"mirrord_{name}", text, registry=registry)

        metrics = cls(
            registry,
            counter("requests", "Answers given to clients.", "upstream", "kind", "outcome"),
            counter("upstream_requests", "Requests made to upstreams.", "upstream", "kind", "result"),
            counter("upstream_bytes", "Bytes of bodies received from upstreams.", "upstream"),
            counter("sent_bytes", "Bytes of bodies sent to clients."),
            counter("evictions", "Blobs and manifests evicted."),
            counter("evicted_bytes", "Bytes evicted."),
            gauge("store_bytes", "Bytes of mirrored blobs, manifests and partials on the disk."),
            gauge("store_entries", "Mirrored blobs and manifests on the disk."),
            gauge("downloads_running", "Blobs that are being downloaded."),
        )
        for upstream in upstreams:
            metrics.add_upstream(upstream)
        return metrics

    def add_upstream(self, upstream: str) -> None:
        """Have a sample of everything that is counted by upstream."""
        self._upstream_bytes.labels(upstream)
        for kind in KINDS:
            for way in WAYS:
                self._requests.labels(upstream, kind, way)
        for kind in UPSTREAM_KINDS:
            for result in UPSTREAM_RESULTS:
                self._upstream_requests.labels(upstream, kind, result)

    def watch(
        self, store_bytes: Callable[[], int], store_entries: Callable[[], int], downloads: Callable[[], int]
    ) -> None:
        """Read the gauges from these whenever they are asked for."""
        self._store_bytes.set_function(store_bytes)
        self._store_entries.set_function(store_entries)
        self._downloads.set_function(downloads)

    def answered(self, upstream: str, kind: str, way: str) -> None:
        """A client got its answer: one of WAYS."""
        self._requests.labels(upstream, kind, way).inc()

    def asked(self, upstream: str, kind: str, status: int | None) -> None:
        """An upstream was asked, and answered with `status`; None: not at all."""
        self._upstream_requests.labels(upstream, kind, _result(status)).inc()

    def received(self, upstream: str, count: int) -> None:
        """An upstream sent `count` bytes of a body."""
        self._upstream_bytes.labels(upstream).inc(count)

    def sent(self, count: int) -> None:
        """A client took `count` bytes of a body."""
        self._sent_bytes.inc(count)

    def evicted(self, count: int, size: int) -> None:
        """A sweep evicted `count` entries of `size` bytes together."""
        self._evictions.inc(count)
        self._evicted_bytes.inc(size)


def _result(status: int | None) -> str:
    if status is None or not 200 <= status < 600:
        return "failed"
    return "429" if status == 429 else f"{status // 100}xx"
