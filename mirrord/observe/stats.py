"""Watched: metrics that nobody counts up, but are asked for whenever somebody looks."""

from collections.abc import Callable, Iterable, Iterator

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@attrs.frozen
class CertificateExpiry:
    """When a certificate of a listener expires, in Unix seconds; `name` is the first that it is for."""

    listener: str
    name: str
    at: float


@attrs.define(eq=False)
class StatsCollector(Collector):
    """What others count or know, and say when they are asked; `assembly.py` says whom to ask."""

    log_dropped: Callable[[], int] = lambda: 0
    certificates: Callable[[], Iterable[CertificateExpiry]] = tuple
    hosted_bytes: Callable[[], int] = lambda: 0
    hosted_entries: Callable[[], int] = lambda: 0
    uploads: Callable[[], int] = lambda: 0
    logins_failed: Callable[[], int] = lambda: 0

    def collect(self) -> Iterator[Metric]:
        """All of it, as it is now; without any certificate there is one without a name, that is NaN."""
        yield CounterMetricFamily(
            "mirrord_log_dropped", "Lines of the logs that nobody took in time.", value=self.log_dropped()
        )
        expiry = GaugeMetricFamily(
            "mirrord_certificate_expiry_seconds",
            "When a certificate expires, in Unix seconds.",
            labels=("listener", "name"),
        )
        for found in tuple(self.certificates()) or (CertificateExpiry("", "", float("nan")),):
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
            "mirrord_uploads_open", "Blobs whose push was begun and not ended.", value=self.uploads()
        )
        yield CounterMetricFamily(
            "mirrord_logins_failed", "Wrong users and passwords.", value=self.logins_failed()
        )
