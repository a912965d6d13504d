"""Listeners: the daemon's ports. They are bound once, at the start, and survive every reload."""

import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from mirrord.admin.status import ListenerStatus
from mirrord.config.addresses import EndpointDescription, unix_endpoint
from mirrord.config.config import Config, ListenConfig
from mirrord.http.certificates import Certificates
from mirrord.http.forwarded import TrustedProxies
from mirrord.http.head_budget import HeadBudget
from mirrord.http.page_cache import PageCache
from mirrord.http.port import SOCKET_MODE, open_port
from mirrord.http.resource import UnavailableResource
from mirrord.http.site import MirrorSite
from mirrord.http.tls_context import CipherPreference
from mirrord.observe.access_log import AccessLog

_ADMIN_MODE = 0o600
_COMMAND_MODE = 0o660


@attrs.define(eq=False, kw_only=True)
class Listener:
    """A port, its site, and its certificates if it uses TLS.

    `mode` is the permission mode of a Unix socket whose endpoint has none.
    """

    endpoint: str
    site: MirrorSite
    certificates: Certificates | None = None
    mode: int = SOCKET_MODE
    _port: IListeningPort | None = attrs.field(default=None, init=False)

    def bind(self, reactor: Any, pages: PageCache) -> None:
        """Bind the port.

        Raises:
            OSError: It cannot be bound; the message names the endpoint.
        """
        opened: list[Any] = []
        Deferred.fromCoroutine(
            open_port(
                reactor,
                self.endpoint,
                self.site,
                pages=pages,
                certificates=self.certificates,
                mode=self.mode,
            )
        ).addBoth(opened.append)
        match opened:
            case [port] if IListeningPort.providedBy(port):
                self._port = port
                return
            case [failure] if failure.check(CannotListenError):
                reason = getattr(failure.value.socketError, "strerror", None) or failure.value.socketError
            case [failure]:
                reason = failure.value
            case _:
                reason = "the port was not opened at once"
        raise OSError(f"cannot listen at {self.endpoint}: {reason}")

    def close_port(self) -> "Deferred[Any]":
        """Stop accepting connections; fires when the port is closed. Open connections stay."""
        return succeed(None) if self._port is None else maybeDeferred(self._port.stopListening)

    def status(self) -> ListenerStatus:
        """Return what /status reports of this listener."""
        certificates = self.certificates
        return ListenerStatus(
            endpoint=self.endpoint,
            connections=self.site.connections,
            is_tls=certificates is not None,
            certificates={} if certificates is None else certificates.expiries,
            trouble=None if certificates is None else certificates.problem,
            address=self.site.address,
        )


def open_listeners(
    config: Config, reactor: Any, access_log: AccessLog, heads: HeadBudget
) -> tuple[Listener, ...]:
    """Return the listeners of `config`, not yet bound; the root of each site comes with a generation.

    Raises:
        OSError: A TLS file cannot be read; the message names it.
    """
    ciphers = CipherPreference.for_processor(Path("/proc/cpuinfo").read_text("utf-8", "replace"))

    def open_listener(listen: ListenConfig) -> Listener:
        site = MirrorSite(
            reactor,
            UnavailableResource("the mirror is starting"),
            access_log=access_log,
            proxies=TrustedProxies(listen.trusted_proxies),
            is_proxied=listen.proxy_protocol,
            heads=heads,
        )
        certificates = None
        if listen.pairs:
            certificates = Certificates.load(
                listen.pairs, client_ca=listen.client_ca, ciphers=ciphers, clock=reactor, wall_clock=time.time
            )
        return Listener(endpoint=listen.endpoint, site=site, certificates=certificates)

    return tuple(map(open_listener, config.listen))


def open_admin_listeners(
    config: Config, command_socket: Path, reactor: Any, heads: HeadBudget
) -> tuple[Listener, ...]:
    """Return the admin listener of `config` and that of the socket for commands, which may be the same.

    They are not yet bound, and have no root.
    """

    def open_listener(endpoint: str, mode: int) -> Listener:
        site = MirrorSite(reactor, UnavailableResource("the mirror is starting"), heads=heads)
        return Listener(endpoint=endpoint, site=site, mode=mode)

    endpoint = config.admin.endpoint
    admin = open_listener(endpoint, _ADMIN_MODE)
    if EndpointDescription.parse(endpoint).socket_path == command_socket:
        return (admin,)
    return (admin, open_listener(unix_endpoint(command_socket), _COMMAND_MODE))
