"""Status: what the admin listener reports of a running daemon."""

import time
from collections.abc import Callable

from mirrord.admin.commands import Commands
from mirrord.admin.root import AdminRoot
from mirrord.admin.status import HostedStatus, LogStatus, Status, StoreStatus
from mirrord.daemon.generation import Generation
from mirrord.daemon.runtime import Runtime
from mirrord.observe.build import version
from mirrord.observe.health import Health, HealthCheck


def build_admin_root(
    runtime: Runtime,
    commands: Commands,
    *,
    generation: Callable[[], Generation],
    reload_error: Callable[[], str | None],
) -> AdminRoot:
    """Build the admin listener's root; it calls `generation` for the one in effect."""
    return AdminRoot(
        registry=runtime.metrics.registry,
        health=_build_health(runtime, reload_error),
        status=_build_status(runtime, generation),
        commands=commands,
    )


def _build_health(runtime: Runtime, reload_error: Callable[[], str | None]) -> Health:
    return Health(
        (
            HealthCheck("store", lambda: runtime.probe.trouble),
            HealthCheck("index", lambda: runtime.store.trouble),
            HealthCheck("disk", lambda: runtime.collector.problem),
            HealthCheck("listeners", lambda: _closed_listeners(runtime)),
            HealthCheck("certificates", lambda: _certificate_problems(runtime)),
            HealthCheck("configuration", reload_error),
            HealthCheck("users", lambda: runtime.access.problem),
        )
    )


def _closed_listeners(runtime: Runtime) -> str | None:
    closed = [listener.endpoint for listener in runtime.listeners if not listener.site.is_listening]
    return f"closed: {', '.join(closed)}" if closed else None


def _certificate_problems(runtime: Runtime) -> str | None:
    return "; ".join(filter(None, (each.problem for each in runtime.certificates))) or None


def _build_status(runtime: Runtime, generation: Callable[[], Generation]) -> Status:
    store, collector, logs = runtime.store, runtime.collector, runtime.logs
    mirrored, hosted = store.eviction, store.hosted_gc
    return Status(
        version=version(),
        clock=time.monotonic,
        store=lambda: StoreStatus(mirrored.total_bytes, mirrored.total_entries, collector.limits.max_size),
        hosted=lambda: HostedStatus(hosted.total_bytes, hosted.total_entries, store.uploads.total_entries),
        saved=lambda: runtime.metrics.saved,
        last_sweep=lambda: collector.last_sweep,
        listeners=lambda: [listener.status() for listener in runtime.listeners],
        upstreams=lambda: [client.status() for client in generation().upstreams.values()],
        downloads=lambda: runtime.downloads.running,
        logs=lambda: LogStatus(logs.dropped, runtime.access_log.dropped),
    )
