"""Open the port that an endpoint description names, with connections of ours.

A Unix socket's path outlives the process that listens there. Twisted keeps a lock file beside it with the
pid of its owner. After `kill -9` both remain, and if that pid belongs to another process by then (in a
container it is our own), the port can never be opened again. So there is no lock file: a socket without a
listener refuses connections, and is removed.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort

from mirrord.config.addresses import EndpointDescription
from mirrord.http.certificates import Certificates
from mirrord.http.file_server import MeteredUnixServer, SendfileServer
from mirrord.http.page_cache import PageCache
from mirrord.http.proxy_protocol import (
    ProxyProtocolSendfileServer,
    ProxyProtocolTLSServer,
    ProxyProtocolUnixServer,
)
from mirrord.http.site import MirrorSite
from mirrord.http.tls import CHUNK_BYTES, TLSServer

BACKLOG = 1024
"""Connections that the kernel accepts ahead of us; Twisted's 50 is less than one cluster that starts."""


async def open_port(
    reactor: Any,
    description: str,
    site: MirrorSite,
    pages: PageCache,
    certificates: Certificates | None = None,
    *,
    mode: str | None = None,
) -> IListeningPort:
    """Open the port of a Twisted server endpoint: `tcp:`, `tcp6:`, `unix:` or `systemd:`.

    With `certificates` it speaks TLS, which is not supported on a Unix socket. `mode` is the octal mode of a
    Unix socket whose description has none.

    Raises:
        ValueError: The description is invalid, or names a Unix socket with TLS.
        CannotListenError: The port cannot be bound.
    """
    endpoint = serverFromString(reactor, complete_description(description, mode))
    remove_stale_socket(description)
    port: IListeningPort = await endpoint.listen(site)
    match port:
        case unix.Port():
            if certificates is not None:
                port.stopListening()
                raise ValueError("TLS is not supported on a Unix socket")
            port.transport = ProxyProtocolUnixServer if site.is_proxied else MeteredUnixServer
        case tcp.Port():
            port.transport = _transport(site, pages, certificates)  # type: ignore[assignment]
    _widen_backlog(port)
    site.address = _authority(port.getHost())
    return port


def complete_description(description: str, mode: str | None = None) -> str:
    """Return a description with what that of a Unix socket omits: no lock file, and `mode`."""
    endpoint = EndpointDescription.parse(description)
    if endpoint.kind != "unix":
        return description
    defaults = {"lockfile": "0", "mode": mode}
    missing = [f"{name}={value}" for name, value in defaults.items() if value and name not in endpoint.named]
    return ":".join([description, *missing])


def remove_stale_socket(description: str) -> None:
    """Remove the socket of a Unix endpoint if no process listens at it."""
    endpoint = EndpointDescription.parse(description)
    if endpoint.kind != "unix":
        return
    path = Path(endpoint.argument("address", 0))
    if not path.is_socket():
        return  # a plain file refuses connections too
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _authority(address: Any) -> str | None:
    """Return host and port of an address that has them."""
    match address:
        case IPv4Address(host=host, port=port):
            return f"{host}:{port}"
        case IPv6Address(host=host, port=port):
            return f"[{host}]:{port}"
    return None


def _transport(site: MirrorSite, pages: PageCache, certificates: Certificates | None) -> Callable[..., Any]:
    """Return the factory of a TCP connection's transport; it is called with the arguments of `tcp.Server`."""
    if certificates is None:
        return partial(ProxyProtocolSendfileServer if site.is_proxied else SendfileServer, pages=pages)
    secure = ProxyProtocolTLSServer if site.is_proxied else TLSServer
    return partial(secure, certificates=certificates, scratch=bytearray(CHUNK_BYTES), pages=pages)


def _widen_backlog(port: Any) -> None:
    """Raise the backlog by another listen(2), which is the only way for a port from systemd."""
    with socket.socket(fileno=os.dup(port.fileno())) as listening:
        listening.listen(BACKLOG)
