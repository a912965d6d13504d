"""The PROXY protocol: connections that begin with a header that names the client (versions 1 and 2).

The header comes before the TLS handshake and before HTTP (HAProxy's proxy-protocol.txt). It is read from
the socket to its last byte and no further: what follows is for OpenSSL, which reads the socket itself. So we
peek, and then read what certainly belongs to the header; if we only peeked, the reactor would wake us for the
same bytes until the rest arrives.

`MirrorSite.buildProtocol` has checked that the peer is a trusted proxy. The header has the timeout of a
request head.
"""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from twisted.internet import address, main
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from mirrord.http.file_server import MeteredUnixServer, SendfileServer
from mirrord.http.forwarded import address_of
from mirrord.http.tls import TLSServer

MAX_HEADER_BYTES = 4096
"""A header of version 1 has 107 bytes at most; one of version 2 may contain a client's certificate."""

_V1_MAX_BYTES = 107
_V1_BEGIN = b"PROXY "
_V2_BEGIN = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = struct.Struct(">12sBBH")
_LOCAL, _PROXY = 0x20, 0x21


class InvalidProxyHeader(ValueError):
    """A connection does not begin with a valid PROXY header."""


def header_size(beginning: bytes) -> int | None:
    """Return the size of the header with this beginning; None if that is unknown so far.

    If it is unknown, all of the beginning belongs to the header.

    Raises:
        InvalidProxyHeader: It is no header.
    """
    if beginning.startswith(_V2_BEGIN[: len(beginning)]):
        if len(beginning) < _V2_FIXED.size:
            return None
        size: int = _V2_FIXED.size + _V2_FIXED.unpack_from(beginning)[3]
        if size > MAX_HEADER_BYTES:
            raise InvalidProxyHeader("PROXY header too long")
        return size
    if not beginning.startswith(_V1_BEGIN[: len(beginning)]):
        raise InvalidProxyHeader("no PROXY header")
    size = beginning.find(b"\n", 0, _V1_MAX_BYTES) + 1
    if not size and len(beginning) >= _V1_MAX_BYTES:
        raise InvalidProxyHeader("PROXY header without an end")
    return size or None


def client_address(header: bytes) -> IAddress | None:
    """Return the client that a header names, or None if the client is the connection's own peer.

    That is so for a proxy's own requests (LOCAL), and for clients that use neither TCP over IPv4 nor TCP over
    IPv6.

    Raises:
        InvalidProxyHeader: It is malformed.
    """
    try:
        return _client_in_v2(header) if header.startswith(_V2_BEGIN) else _client_in_v1(header)
    except (ValueError, IndexError, struct.error):
        raise InvalidProxyHeader("malformed PROXY header") from None


def _client_in_v1(header: bytes) -> IAddress | None:
    line = header.decode("ascii")
    if not line.endswith("\r\n"):
        raise InvalidProxyHeader
    words = line[:-2].split(" ")
    if words[1] == "UNKNOWN":
        return None
    _, family, source, _, port, _ = words
    match family:
        case "TCP4":
            return _tcp(IPv4Address(source), int(port))
        case "TCP6":
            return _tcp(IPv6Address(source), int(port))
    raise InvalidProxyHeader


def _client_in_v2(header: bytes) -> IAddress | None:
    _, command, family, _ = _V2_FIXED.unpack_from(header)
    if command not in {_LOCAL, _PROXY}:
        raise InvalidProxyHeader
    if command == _LOCAL:
        return None
    match family:
        case 0x11:
            source, _, port = struct.unpack_from(">4s4sH", header, _V2_FIXED.size)
            return _tcp(IPv4Address(source), port)
        case 0x21:
            source, _, port = struct.unpack_from(">16s16sH", header, _V2_FIXED.size)
            return _tcp(IPv6Address(source), port)
    return None


def _tcp(host: IPv4Address | IPv6Address, port: int) -> IAddress:
    kind = address.IPv4Address if isinstance(host, IPv4Address) else address.IPv6Address
    return kind("TCP", str(host), port)


class ProxyProtocol:
    """Mixed into a server transport, before it: reads the header, and reports the client as the peer."""

    _log = Logger()

    socket: Any
    protocol: Any
    _header = b""
    _awaits_header = True
    _client: IAddress | None = None

    @property
    def is_opening(self) -> bool:
        """Whether HTTP has not begun yet."""
        return self._awaits_header or super().is_opening  # type: ignore[misc]

    def getPeer(self) -> IAddress:
        """Return the client's address, once it is known."""
        return self._client or super().getPeer()  # type: ignore[misc]

    def doRead(self) -> Any:
        """Read; called by the reactor when something has arrived."""
        if not self._awaits_header:
            return super().doRead()  # type: ignore[misc]
        try:
            peeked = self.socket.recv(MAX_HEADER_BYTES, socket.MSG_PEEK)
            size = header_size(self._header + peeked)
            count = len(peeked) if size is None else size - len(self._header)
            self._header += self.socket.recv(min(count, len(peeked)))
            if len(self._header) == size:
                self._awaits_header = False
                self._client = client_address(self._header)
                self.protocol.peer_identified()
        except BlockingIOError:
            return None
        except InvalidProxyHeader as error:
            self._log.info(
                "connection from {peer} rejected: {fault}", peer=address_of(self.getPeer()), fault=str(error)
            )
            return main.CONNECTION_LOST
        except OSError:
            return main.CONNECTION_LOST
        return None if peeked else main.CONNECTION_LOST


class ProxyProtocolUnixServer(ProxyProtocol, MeteredUnixServer):
    """A connection over a Unix socket, with a PROXY header."""


class ProxyProtocolSendfileServer(ProxyProtocol, SendfileServer):
    """A connection over plain TCP, with a PROXY header."""


class ProxyProtocolTLSServer(ProxyProtocol, TLSServer):
    """A connection over TLS, with a PROXY header before it."""
