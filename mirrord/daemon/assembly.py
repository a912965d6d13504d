"""Assembly: the place where a mirror is joined.

Everything below is made of ports; here, in mirror.py and in foundation.py each is handed the real thing.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mirrord.admin.commands import Commands
from mirrord.admin.root import AdminRoot
from mirrord.admin.status import Holdings, HostedHoldings, LastSweep, LogStatus, Status
from mirrord.config.config import Config
from mirrord.daemon.generation import Generation
from mirrord.daemon.runtime import Runtime
from mirrord.daemon.service import Listener, Parts
from mirrord.http.certificates import Certificates
from mirrord.http.site import MirrorSite
from mirrord.observe.build import version
from mirrord.observe.health import Health, HealthCheck
from mirrord.observe.heap import Heap
from mirrord.observe.heartbeat import Heartbeat
from mirrord.observe.latency import Latency
from mirrord.observe.logs import Logs
from mirrord.observe.stats import CertificateExpiry
from mirrord.observe.systemd import Notifier, watchdog_seconds
from mirrord.oci.platforms import Platform


def assemble(
    config: Config, reactor: Any, *, environment: Mapping[str, str], reread: Callable[[], Config], logs: Logs
) -> Parts:
    """All parts of a mirror, joined and not yet started; `reread` gives the configuration of a reload.

    Raises:
        OSError: The store cannot be opened, or a file of TLS not be read; the message names the file.
    """
    foundation = Runtime.lay(config, reactor, environment)
    mirror = Generation(foundation, config, reread, logs)
    _watch(foundation, mirror, logs)
    commands = Commands(lambda: mirror.operations, Platform.of_machine(platform.machine()))
    status, health = _status(foundation, mirror, logs), _health(foundation, mirror)
    admin = AdminRoot(foundation.metrics.registry, health, status, commands)
    notifier = Notifier.of(environment)
    return Parts(
        mirror.listeners(),
        Listener(config.admin.endpoint, MirrorSite(reactor, admin.respond), mode="600"),
        foundation.pools,
        foundation.pages,
        (
            commands,
            foundation.collector,
            foundation.probe,
            _heartbeat(foundation, notifier, environment),
            foundation.access_log,
            Latency(reactor, time.monotonic, foundation.metrics.late),
            Heap(reactor),
            *mirror.certificates,
        ),
        foundation.puller,
        foundation.store,
        foundation.upstreams.values,
        notifier,
        mirror.reload,
        config.drain_timeout,
    )


def _health(foundation: Runtime, mirror: Generation) -> Health:
    """What has to be well before clients are sent here."""
    return Health(
        (
            HealthCheck("store", lambda: foundation.probe.trouble),
            HealthCheck("index", lambda: foundation.store.trouble),
            HealthCheck("disk", lambda: foundation.collector.trouble),
            HealthCheck("listeners", mirror.closed),
            HealthCheck("certificates", lambda: _trouble(mirror.certificates)),
            HealthCheck("configuration", lambda: mirror.trouble),
            HealthCheck("users", lambda: foundation.admission.problem),
        )
    )


def _heartbeat(foundation: Runtime, notifier: Notifier, environment: Mapping[str, str]) -> Heartbeat:
    """What tells systemd that we live."""
    return Heartbeat(
        notifier,
        foundation.reactor,
        watchdog_seconds(environment, os.getpid()),
        lambda: foundation.probe.trouble,
        lambda: _in_a_line(foundation),
    )


def _status(foundation: Runtime, mirror: Generation, logs: Logs) -> Status:
    """What an operator sees at a glance."""
    store, collector = foundation.store, foundation.collector
    shelf, hosted = store.eviction, store.hosted_gc

    def last_sweep() -> LastSweep | None:
        sweep = collector.last_sweep
        if sweep is None:
            return None
        evicted, removed = sweep.evicted, sweep.hosted.removed
        return LastSweep(
            sweep.started_at,
            sweep.seconds,
            evicted.count,
            evicted.size,
            sweep.forgotten,
            removed.count,
            removed.size,
        )

    return Status(
        version=version(),
        clock=time.monotonic,
        store=lambda: Holdings(shelf.total_bytes, shelf.total_entries, collector.limits.max_size),
        hosted=lambda: HostedHoldings(hosted.total_bytes, hosted.total_entries, store.uploads.total_entries),
        saved=lambda: foundation.metrics.saved,
        last_sweep=last_sweep,
        listeners=mirror.statuses,
        upstreams=mirror.upstream_statuses,
        downloads=lambda: foundation.puller.running,
        logs=lambda: LogStatus(logs.dropped, foundation.access_log.dropped),
    )


def _watch(foundation: Runtime, mirror: Generation, logs: Logs) -> None:
    """Have the metrics ask for what is counted elsewhere."""
    watched, store = foundation.metrics.watched, foundation.store
    watched.hosted_bytes = lambda: store.hosted_gc.total_bytes
    watched.hosted_entries = lambda: store.hosted_gc.total_entries
    watched.uploads = lambda: store.uploads.total_entries
    watched.logins_failed = lambda: foundation.admission.failed_logins
    watched.log_dropped = lambda: logs.dropped + foundation.access_log.dropped
    watched.certificates = lambda: [
        CertificateExpiry(status.endpoint, name, at)
        for status in mirror.statuses()
        for name, at in status.certificates.items()
    ]


def _in_a_line(foundation: Runtime) -> str:
    """What `systemctl status` shows."""
    shelf = foundation.store.eviction
    return (
        f"{len(foundation.puller.running)} downloads running, "
        f"{shelf.total_bytes / 1e9:.1f} GB in {shelf.total_entries} blobs and manifests"
    )


def _trouble(certificates: Iterable[Certificates]) -> str | None:
    """What is wrong with the certificates of all listeners."""
    return "; ".join(filter(None, (each.trouble for each in certificates))) or None
