"""The origin of a request to an admin listener: commands are accepted at a Unix socket only.

There are no passwords here, and any user of this host, a reverse proxy or a web page in a browser can connect
to a TCP port of this host. Who may connect to a Unix socket is decided by the mode of its file, that is, by
the operator; the kernel reports who has connected, which is logged.

A command over TCP gets 403, not 404: it is known and refused for good, and the message names the socket. The
command line reports a 404 as content that does not exist.

What TCP serves may be read by every client that can connect, but not by a web page in the operator's browser.
A page whose own name resolves to 127.0.0.1 (DNS rebinding) is recognized by its Host header.
"""

import re
import socket
import struct
from pathlib import Path
from typing import Self

import attrs

from mirrord.config.addresses import parse_address
from mirrord.http.request import MirrorRequest
from mirrord.oci.errors import Denied

_PORT = re.compile(r":[0-9]*\Z")
_CREDENTIALS = struct.Struct("3i")


@attrs.frozen
class PeerCredentials:
    """The process that has connected to a Unix socket, and its user (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int

    @classmethod
    def of(cls, request: MirrorRequest) -> Self | None:
        """Return the credentials of a request's peer; None if it has not come over a Unix socket."""
        connection = getattr(request.channel.transport, "socket", None)
        if connection is None or connection.family != socket.AF_UNIX:
            return None
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(packed)
        return cls(pid, uid)


def require_unix_socket(request: MirrorRequest, path: Path) -> PeerCredentials:
    """Return who has sent a command; `path` is the socket that accepts it.

    Raises:
        Denied: It has not come over a Unix socket.
    """
    peer = PeerCredentials.of(request)
    if peer is None:
        raise Denied(f"commands are accepted at the Unix socket {path} only")
    return peer


def refuse_web_pages(request: MirrorRequest) -> None:
    """Refuse a request from this host to a name that a web page may have given it (DNS rebinding).

    Raises:
        Denied: The peer is this host, and Host is neither localhost nor an address.
    """
    host = getattr(request.channel.transport.getPeer(), "host", None)
    if host is not None and _is_loopback(host) and not _is_address(request.header(b"Host") or b""):
        raise Denied("the Host header must be localhost or an IP address")


def _is_loopback(host: str) -> bool:
    address = parse_address(host.partition("%")[0])
    return address is not None and address.is_loopback


def _is_address(header: bytes) -> bool:
    """Return whether a Host header needs no DNS, which others could control: localhost, or an address."""
    host = _PORT.sub("", header.decode("latin-1")).lower()
    return host == "localhost" or parse_address(host.removeprefix("[").removesuffix("]")) is not None
