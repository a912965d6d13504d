"""The admin listener's resources and the operator's use cases, composed."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from mirrord.access.rules import Action, Rules
from mirrord.admin.commands import Commands
from mirrord.admin.explanation import Explainer
from mirrord.admin.listing import RepositoryLister
from mirrord.admin.operations import Operations, Remover
from mirrord.admin.pull import ImagePuller
from mirrord.admin.results import Permissions
from mirrord.admin.root import AdminRoot, HealthChecks
from mirrord.admin.status import HostedStatus, LogStatus, QuarantineStatus, Status, StoreStatus
from mirrord.admin.verification import Verifier
from mirrord.config.config import Config
from mirrord.daemon.runtime import Runtime
from mirrord.observe.build import version
from mirrord.repository import Repository
from mirrord.routing import Router
from mirrord.upstream.client import UpstreamClient


def build_operations(runtime: Runtime, config: Config, router: Router) -> Operations:
    """Compose the operator's use cases for the repositories of `config`."""
    store, clock = runtime.store, runtime.reactor
    return Operations(
        lister=RepositoryLister(router, store.browser.flush, clock),
        remover=Remover(router),
        collector=runtime.collector,
        puller=ImagePuller(router, clock),
        verifier=Verifier(
            audit=store.audit,
            reconciled=store.reconciled,
            browser=store.browser,
            hosted=store.hosted,
            router=router,
            is_busy=lambda: store.eviction.busy_bytes > 0,
            lock=runtime.verification_lock,
            clock=clock,
        ),
        explainer=Explainer(
            router=router,
            permissions=partial(_permissions, config),
            last_clients=runtime.last_clients,
        ),
        is_hosted=router.is_hosted,
    )


def _permissions(config: Config, repository: Repository) -> Permissions | None:
    """Return who may do what in a repository; None if there are no rules."""
    if config.access is None:
        return None
    rules = Rules.of(config)
    pull, push, delete = (
        tuple(sorted(map(str, rules.principals(action, repository.key))))
        for action in (Action.PULL, Action.PUSH, Action.DELETE)
    )
    return Permissions(pull, (), ()) if repository.writer is None else Permissions(pull, push, delete)


def build_admin_root(
    runtime: Runtime,
    commands: Commands,
    *,
    upstreams: Callable[[], Mapping[str, UpstreamClient]],
    reload_error: Callable[[], str | None],
) -> AdminRoot:
    """Build the admin listener's root; it calls `upstreams` for the configured ones."""
    return AdminRoot(
        registry=runtime.metrics.registry,
        checks=_health_checks(runtime, reload_error),
        status=_build_status(runtime, upstreams),
        commands=commands,
    )


def _health_checks(runtime: Runtime, reload_error: Callable[[], str | None]) -> HealthChecks:
    return {
        "store": lambda: runtime.probe.trouble or runtime.threads.problem,
        "index": lambda: runtime.store.trouble,
        "disk": lambda: runtime.collector.problem,
        "listeners": lambda: _closed_listeners(runtime),
        "certificates": lambda: _certificate_problems(runtime),
        "configuration": reload_error,
        "users": lambda: runtime.access.problem,
    }


def _closed_listeners(runtime: Runtime) -> str | None:
    closed = [listener.endpoint for listener in runtime.listeners if not listener.site.is_listening]
    return f"closed: {', '.join(closed)}" if closed else None


def _certificate_problems(runtime: Runtime) -> str | None:
    return "; ".join(filter(None, (each.problem for each in runtime.certificates))) or None


def _build_status(runtime: Runtime, upstreams: Callable[[], Mapping[str, UpstreamClient]]) -> Status:
    store, collector, logs = runtime.store, runtime.collector, runtime.logs
    mirrored, hosted = store.eviction, store.hosted_gc
    return Status(
        version=version(),
        clock=time.monotonic,
        store=lambda: StoreStatus(mirrored.total_bytes, mirrored.total_entries, collector.limits.max_size),
        hosted=lambda: HostedStatus(
            hosted.total_bytes,
            hosted.total_entries,
            store.uploads.total_entries,
            QuarantineStatus(store.quarantine.total_bytes, store.quarantine.total_entries),
        ),
        saved=lambda: runtime.metrics.saved,
        last_sweep=lambda: collector.last_sweep,
        listeners=lambda: [listener.status() for listener in runtime.listeners],
        upstreams=lambda: [client.status() for client in upstreams().values()],
        downloads=lambda: runtime.downloads.running,
        logs=lambda: LogStatus(logs.dropped, runtime.access_log.dropped),
    )
