"""Proxied: connections that begin with a PROXY header, which says for whom they are made.

The header stands before the handshake of TLS and before HTTP (HAProxy's proxy-protocol.txt, versions
1 and 2). It is read off the socket to its last byte and no further: what follows is for OpenSSL,
which reads the socket itself. So we peek, and take what surely belongs to the header; to peek alone
would be called again and again for the same bytes while the rest is on its way.

Whether the peer may say such a thing is asked before (MirrorSite.buildProtocol), and how long it may
take is the time of a request's head.
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
"""A header of version 1 takes 107 bytes at most; one of version 2 may carry a client's certificate."""

_V1_MAX_BYTES = 107
_V1_BEGIN = b"PROXY "
_V2_BEGIN = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = struct.Struct(">12sBBH")
_LOCAL, _PROXY = 0x20, 0x21


class InvalidProxyHeader(ValueError):
    """A connection does not begin with a PROXY header."""


def size_of(begun: bytes) -> int | None:
    """How long the header is that begins so; None while that is open, and all of it is the header's.

    Raises:
        InvalidProxyHeader: It is no header.
    """
    if begun.startswith(_V2_BEGIN[: len(begun)]):
        if len(begun) < _V2_FIXED.size:
            return None
        size: int = _V2_FIXED.size + _V2_FIXED.unpack_from(begun)[3]
        if size > MAX_HEADER_BYTES:
            raise InvalidProxyHeader("a PROXY header that is too long")
        return size
    if not begun.startswith(_V1_BEGIN[: len(begun)]):
        raise InvalidProxyHeader("no PROXY header")
    size = begun.find(b"\n", 0, _V1_MAX_BYTES) + 1
    if not size and len(begun) >= _V1_MAX_BYTES:
        raise InvalidProxyHeader("a PROXY header without an end")
    return size or None


def client_in(header: bytes) -> IAddress | None:
    """Whom a header speaks for; None where that is nobody whom it could name.

    That is so for a proxy's own questions (LOCAL), and for clients that come by neither TCP over IPv4
    nor TCP over IPv6: the connection's own peer is meant then.

    Raises:
        InvalidProxyHeader: It cannot be read.
    """
    try:
        return _client_of_v2(header) if header.startswith(_V2_BEGIN) else _client_of_v1(header)
    except (ValueError, IndexError, struct.error):
        raise InvalidProxyHeader("a PROXY header that cannot be read") from None


def _client_of_v1(header: bytes) -> IAddress | None:
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


def _client_of_v2(header: bytes) -> IAddress | None:
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
    """Mixed into a server transport, before it: reads the header, and has the client for its peer."""

    _log = Logger()

    socket: Any
    protocol: Any
    _header = b""
    _awaits_header = True
    _client: IAddress | None = None

    @property
    def is_opening(self) -> bool:
        """Whether something stands before the first byte of HTTP."""
        return self._awaits_header or super().is_opening  # type: ignore[misc]

    def getPeer(self) -> IAddress:
        """The client's address, once it is known."""
        return self._client or super().getPeer()  # type: ignore[misc]

    def doRead(self) -> Any:
        """Called by the reactor when something has come."""
        if not self._awaits_header:
            return super().doRead()  # type: ignore[misc]
        try:
            seen = self.socket.recv(MAX_HEADER_BYTES, socket.MSG_PEEK)
            size = size_of(self._header + seen)
            wanted = len(seen) if size is None else size - len(self._header)
            self._header += self.socket.recv(min(wanted, len(seen)))
            if len(self._header) == size:
                self._awaits_header = False
                self._client = client_in(self._header)
                self.protocol.peer_identified()
        except BlockingIOError:
            return None
        except InvalidProxyHeader as error:
            self._log.info("{peer} sends {fault}", peer=address_of(self.getPeer()), fault=str(error))
            return main.CONNECTION_LOST
        except OSError:
            return main.CONNECTION_LOST
        return None if seen else main.CONNECTION_LOST


class ProxyProtocolUnixServer(ProxyProtocol, MeteredUnixServer):
    """A connection over a Unix socket, with a PROXY header."""


class ProxyProtocolSendfileServer(ProxyProtocol, SendfileServer):
    """A connection over plain TCP, with a PROXY header."""


class ProxyProtocolTLSServer(ProxyProtocol, TLSServer):
    """A connection over TLS, with a PROXY header before it."""
