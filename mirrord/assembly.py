"""Assembly: the place where a mirror is joined.

Everything below is made of ports; here each is handed the real thing. What a configuration decides is
written in use cases and upstream clients, which a reload makes anew over the same foundation; the sites
stay, and are given another root.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import DeferredLock

from mirrord import operations
from mirrord.admin.commands import Commands
from mirrord.admin.ports import Operations
from mirrord.admin.root import AdminRoot
from mirrord.admin.status import Holdings, HostedHoldings, LastSweep, ListenerStatus, LogStatus, Status
from mirrord.config import Config, ConfigError, ListenConfig
from mirrord.foundation import Foundation, limits_of
from mirrord.hosting import HostedConfig
from mirrord.listen.certificates import Certificates
from mirrord.listen.context import Ciphers
from mirrord.listen.forwarded import TrustedProxies
from mirrord.listen.site import ConnectionLimits, MirrorSite
from mirrord.observe.build import version
from mirrord.observe.health import Check, Health
from mirrord.observe.heap import Heap
from mirrord.observe.heartbeat import Heartbeat
from mirrord.observe.latency import Latency
from mirrord.observe.logs import Logs
from mirrord.observe.notify import Notifier, watchdog_seconds
from mirrord.observe.watched import Expiry
from mirrord.oci.platforms import Platform
from mirrord.reload import bound_changes, merge
from mirrord.service import Listener, Parts, Reloaded
from mirrord.upstream.client import UpstreamStatus
from mirrord.web.root import RegistryRoot


@attrs.define(eq=False)
class Mirror:
    """A configuration in effect, on its foundation, with the sites of its listeners."""

    _foundation: Foundation
    _config: Config
    _reread: Callable[[], Config]
    _logs: Logs
    _sites: tuple[MirrorSite, ...] = attrs.field(init=False)
    _certificates: tuple[Certificates | None, ...] = attrs.field(init=False)
    _verifying: DeferredLock = attrs.field(factory=DeferredLock, init=False)
    operations: Operations = attrs.field(init=False)
    trouble: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        root_of = self._roots(self._config)
        self._foundation.access_log.path = self._config.log.access
        self._sites = tuple(
            MirrorSite(
                self._foundation.reactor,
                root_of(listen).respond,
                _connection_limits(listen, self._config.hosted),
                self._foundation.access_log,
                proxies=TrustedProxies(listen.trusted_proxies),
                is_proxied=listen.proxy_protocol,
            )
            for listen in self._config.listen
        )
        ciphers = Ciphers.for_processor(Path("/proc/cpuinfo").read_text("utf-8", "replace"))
        self._certificates = tuple(
            Certificates.load(listen.pairs, listen.client_ca, ciphers, self._foundation.reactor, time.time)
            if listen.pairs
            else None
            for listen in self._config.listen
        )

    @property
    def certificates(self) -> tuple[Certificates, ...]:
        """Those of the listeners that speak TLS."""
        return tuple(filter(None, self._certificates))

    def listeners(self) -> tuple[Listener, ...]:
        """The ports of the mirror."""
        return tuple(
            Listener(listen.endpoint, site, certificates)
            for listen, site, certificates in zip(
                self._config.listen, self._sites, self._certificates, strict=True
            )
        )

    def statuses(self) -> list[ListenerStatus]:
        """How the listeners do."""
        return [
            ListenerStatus(
                listen.endpoint,
                site.connections,
                certificates is not None,
                {} if certificates is None else certificates.expiries,
                None if certificates is None else certificates.trouble,
                site.address,
            )
            for listen, site, certificates in zip(
                self._config.listen, self._sites, self._certificates, strict=True
            )
        ]

    def upstream_statuses(self) -> list[UpstreamStatus]:
        """How the upstreams do that the configuration has."""
        return [self._foundation.upstreams[one.name].status() for one in self._config.upstream]

    def closed(self) -> str | None:
        """Which ports are not open."""
        closed = [
            listen.endpoint
            for listen, site in zip(self._config.listen, self._sites, strict=True)
            if not site.is_listening
        ]
        return f"closed: {', '.join(closed)}" if closed else None

    def reload(self) -> Reloaded:
        """Read the configuration again and take on what can be changed now.

        Raises:
            ConfigError: It cannot be used, and nothing has changed.
        """
        try:
            wanted = self._reread()
            config = merge(self._config, wanted)
            root_of = self._roots(config)
        except ConfigError as error:
            self.trouble = f"the configuration was not taken: {error.lines[0]}"
            raise
        self.trouble = None
        needing_restart = tuple(bound_changes(self._config, wanted))
        self._config = config
        for listen, site in zip(config.listen, self._sites, strict=True):
            site.respond = root_of(listen).respond
            site.limits = _connection_limits(listen, config.hosted)
        self._logs.configure(config.log.format, config.log.level)
        self._foundation.access_log.path = config.log.access
        for certificates in self.certificates:
            certificates.reload()
        self._foundation.collector.configure(limits_of(config), config.gc.interval)
        return Reloaded(config.drain_timeout, needing_restart)

    def _roots(self, config: Config) -> Callable[[ListenConfig], RegistryRoot]:
        """What answers at a listener; listeners differ in their own upstream.

        Raises:
            ConfigError: There can be no gate as it says.
        """
        foundation = self._foundation
        gate = foundation.gate(config)
        use_cases = foundation.use_cases(config)
        self.operations = operations.join(foundation, config, use_cases, self._verifying)
        return lambda listen: RegistryRoot(
            use_cases,
            gate,
            listen.upstream,
            foundation.metrics,
            foundation.pages,
            is_debugging=lambda: self._logs.is_debugging,
        )


def assemble(
    config: Config, reactor: Any, *, environment: Mapping[str, str], reread: Callable[[], Config], logs: Logs
) -> Parts:
    """All parts of a mirror, joined and not yet started; `reread` gives the configuration of a reload.

    Raises:
        OSError: The store cannot be opened, or a file of TLS not be read; the message names the file.
    """
    foundation = Foundation.lay(config, reactor, environment)
    mirror = Mirror(foundation, config, reread, logs)
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


def _health(foundation: Foundation, mirror: Mirror) -> Health:
    """What has to be well before clients are sent here."""
    return Health(
        (
            Check("store", lambda: foundation.probe.trouble),
            Check("index", lambda: foundation.store.trouble),
            Check("disk", lambda: foundation.collector.trouble),
            Check("listeners", mirror.closed),
            Check("certificates", lambda: _trouble(mirror.certificates)),
            Check("configuration", lambda: mirror.trouble),
            Check("users", lambda: foundation.admission.trouble),
        )
    )


def _heartbeat(foundation: Foundation, notifier: Notifier, environment: Mapping[str, str]) -> Heartbeat:
    """What tells systemd that we live."""
    return Heartbeat(
        notifier,
        foundation.reactor,
        watchdog_seconds(environment, os.getpid()),
        lambda: foundation.probe.trouble,
        lambda: _in_a_line(foundation),
    )


def _status(foundation: Foundation, mirror: Mirror, logs: Logs) -> Status:
    """What an operator sees at a glance."""
    store, collector = foundation.store, foundation.collector
    shelf, hosted = store.shelf, store.hosted_shelf

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


def _watch(foundation: Foundation, mirror: Mirror, logs: Logs) -> None:
    """Have the metrics ask for what is counted elsewhere."""
    watched, store = foundation.metrics.watched, foundation.store
    watched.hosted_bytes = lambda: store.hosted_shelf.total_bytes
    watched.hosted_entries = lambda: store.hosted_shelf.total_entries
    watched.uploads = lambda: store.uploads.total_entries
    watched.logins_failed = lambda: foundation.admission.failures
    watched.log_dropped = lambda: logs.dropped + foundation.access_log.dropped
    watched.certificates = lambda: [
        Expiry(status.endpoint, name, at)
        for status in mirror.statuses()
        for name, at in status.certificates.items()
    ]


def _in_a_line(foundation: Foundation) -> str:
    """What `systemctl status` shows."""
    shelf = foundation.store.shelf
    return (
        f"{len(foundation.puller.running)} downloads running, "
        f"{shelf.total_bytes / 1e9:.1f} GB in {shelf.total_entries} blobs and manifests"
    )


def _connection_limits(listen: ListenConfig, hosted: HostedConfig) -> ConnectionLimits:
    return ConnectionLimits(stall_seconds=listen.stall_timeout, upload_seconds=hosted.upload_timeout)


def _trouble(certificates: Iterable[Certificates]) -> str | None:
    """What is wrong with the certificates of all listeners."""
    return "; ".join(filter(None, (each.trouble for each in certificates))) or None
