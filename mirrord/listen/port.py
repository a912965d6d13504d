"""Ports: from an endpoint's description to an open port whose connections are ours."""

import os
import socket
from functools import partial
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.interfaces import IListeningPort, IOpenSSLServerConnectionCreator

from mirrord.listen.meter import MeteredUnixServer
from mirrord.listen.pages import Pages
from mirrord.listen.sendfile import SendfileServer
from mirrord.listen.site import MirrorSite

BACKLOG = 1024
"""Connections that the kernel holds for us; Twisted's 50 is less than one cluster that starts."""


async def open_port(
    reactor: Any,
    description: str,
    site: MirrorSite,
    pages: Pages,
    tls: IOpenSSLServerConnectionCreator | None = None,
) -> IListeningPort:
    """Open the port that a Twisted server endpoint describes: `tcp:`, `tcp6:`, `unix:`, `systemd:`.

    Raises:
        ValueError: It describes no endpoint.
        CannotListenError: The port cannot be bound.
    """
    endpoint = serverFromString(reactor, description)
    if tls is not None:
        endpoint = wrapServerTLS(tls, endpoint, reactor)
    port: IListeningPort = await endpoint.listen(site)
    match port:
        case unix.Port():
            port.transport = MeteredUnixServer
        case tcp.Port():
            # Under TLS too, for its meter: what the channel sees there is the TLS wrapper's type.
            port.transport = partial(SendfileServer, pages)  # type: ignore[assignment]
    _widen(port)
    return port


def _widen(port: Any) -> None:
    """Raise the backlog; listen(2) may be called again, and a port from systemd needs no other way."""
    with socket.socket(fileno=os.dup(port.fileno())) as listening:
        listening.listen(BACKLOG)
