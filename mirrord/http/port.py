"""Open the port that an endpoint description names, with connections of ours."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
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
from mirrord.http.unix_port import BACKLOG, UnixPort, listen_at

SOCKET_MODE = 0o666
"""The mode of a Unix socket whose description has none, as in Twisted."""


async def open_port(
    reactor: Any,
    description: str,
    site: MirrorSite,
    pages: PageCache,
    certificates: Certificates | None = None,
    *,
    mode: int = SOCKET_MODE,
) -> IListeningPort:
    """Open the port of a Twisted server endpoint: `tcp:`, `tcp6:`, `unix:` or `systemd:`.

    With `certificates` it speaks TLS, which is not supported on a Unix socket. `mode` is the mode of a Unix
    socket whose description has none.

    Raises:
        ValueError: The description is invalid, or names a Unix socket with TLS.
        CannotListenError: The port cannot be bound.
    """
    endpoint = serverFromString(reactor, description)
    path = EndpointDescription.parse(description).socket_path
    port: IListeningPort
    if path is not None or getattr(endpoint, "addressFamily", None) == socket.AF_UNIX:
        if certificates is not None:
            raise ValueError("TLS is not supported on a Unix socket")
        listening = _adopt(endpoint) if path is None else _listen_at(path, description, mode)
        port = UnixPort(listening, site, reactor, path)
        port.transport = ProxyProtocolUnixServer if site.is_proxied else MeteredUnixServer
        port.startListening()
    else:
        port = await endpoint.listen(site)
        if isinstance(port, tcp.Port):
            port.transport = _transport(site, pages, certificates)  # type: ignore[assignment]
    _widen_backlog(port)
    site.address = _authority(port.getHost())
    return port


def _adopt(endpoint: AdoptedStreamServerEndpoint) -> socket.socket:
    """Return the Unix socket that systemd has passed to us."""
    listening = socket.socket(fileno=endpoint.fileno)
    listening.setblocking(False)
    listening.set_inheritable(False)
    return listening


def _listen_at(path: Path, description: str, mode: int) -> socket.socket:
    given = EndpointDescription.parse(description).named.get("mode")
    try:
        return listen_at(path, mode if given is None else int(given, 8))
    except OSError as error:
        raise CannotListenError(None, str(path), error) from None


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
