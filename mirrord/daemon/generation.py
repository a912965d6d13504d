"""Mirror: a configuration in effect, on the foundation that outlives it.

What a configuration decides is written in use cases and upstream clients, which a reload makes anew over
the same foundation; the sites stay, and are given another root.
"""

import time
from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.internet.defer import DeferredLock

from mirrord.admin.ports import Operations
from mirrord.admin.status import ListenerStatus
from mirrord.api.root import RegistryRoot
from mirrord.config.config import Config, ConfigError, ListenConfig
from mirrord.config.hosted import HostedConfig
from mirrord.config.reload import bound_changes, merge
from mirrord.daemon import operations
from mirrord.daemon.runtime import Runtime, limits_of
from mirrord.daemon.service import Listener, Reloaded
from mirrord.http.certificates import Certificates
from mirrord.http.forwarded import TrustedProxies
from mirrord.http.site import ConnectionLimits, MirrorSite
from mirrord.http.tls_context import CipherPreference
from mirrord.observe.logs import Logs
from mirrord.upstream.client import UpstreamStatus


@attrs.define(eq=False)
class Generation:
    """A configuration in effect, on its foundation, with the sites of its listeners."""

    _foundation: Runtime
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
        ciphers = CipherPreference.for_processor(Path("/proc/cpuinfo").read_text("utf-8", "replace"))
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


def _connection_limits(listen: ListenConfig, hosted: HostedConfig) -> ConnectionLimits:
    return ConnectionLimits(stall_seconds=listen.stall_timeout, upload_seconds=hosted.upload_timeout)
