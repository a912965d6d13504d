"""Ports: from an endpoint's description to an open port whose connections are ours."""

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort

from mirrord.http.ack_meter import MeteredUnixServer
from mirrord.http.certificates import Certificates
from mirrord.http.page_cache import PageCache
from mirrord.http.proxy_protocol import (
    ProxyProtocolSendfileServer,
    ProxyProtocolTLSServer,
    ProxyProtocolUnixServer,
)
from mirrord.http.sendfile import SendfileServer
from mirrord.http.site import MirrorSite
from mirrord.http.tls import CHUNK_BYTES, TLSServer
from mirrord.http.unix_socket import clear, complete

BACKLOG = 1024
"""Connections that the kernel holds for us; Twisted's 50 is less than one cluster that starts."""


async def open_port(
    reactor: Any,
    description: str,
    site: MirrorSite,
    pages: PageCache,
    certificates: Certificates | None = None,
    *,
    mode: str | None = None,
) -> IListeningPort:
    """Open the port that a Twisted server endpoint describes: `tcp:`, `tcp6:`, `unix:`, `systemd:`.

    With `certificates` it speaks TLS, which a Unix socket does not. `mode` is who may connect to a
    Unix socket whose description does not say so, in octal.

    Raises:
        ValueError: It describes no endpoint, or a Unix socket that is to speak TLS.
        CannotListenError: The port cannot be bound.
    """
    endpoint = serverFromString(reactor, complete(description, mode))
    clear(description)
    port: IListeningPort = await endpoint.listen(site)
    match port:
        case unix.Port():
            if certificates is not None:
                port.stopListening()
                raise ValueError("no TLS is spoken on a Unix socket")
            port.transport = ProxyProtocolUnixServer if site.is_proxied else MeteredUnixServer
        case tcp.Port():
            port.transport = _transport(site, pages, certificates)  # type: ignore[assignment]
    _widen(port)
    site.address = _authority(port.getHost())
    return port


def _authority(address: Any) -> str | None:
    """Host and port, of an address that has them."""
    match address:
        case IPv4Address(host=host, port=port):
            return f"{host}:{port}"
        case IPv6Address(host=host, port=port):
            return f"[{host}]:{port}"
    return None


def _transport(site: MirrorSite, pages: PageCache, certificates: Certificates | None) -> Callable[..., Any]:
    """What makes the transport of a TCP connection, given the arguments of `tcp.Server`."""
    if certificates is None:
        return partial(ProxyProtocolSendfileServer if site.is_proxied else SendfileServer, pages)
    secure = ProxyProtocolTLSServer if site.is_proxied else TLSServer
    return partial(secure, certificates, bytearray(CHUNK_BYTES), pages)


def _widen(port: Any) -> None:
    """Raise the backlog; listen(2) may be called again, and a port from systemd needs no other way."""
    with socket.socket(fileno=os.dup(port.fileno())) as listening:
        listening.listen(BACKLOG)
