"""TLSServer: a client's TLS connection, with OpenSSL on the socket itself.

Twisted wraps TLS around a transport: OpenSSL encrypts into memory, from which the bytes are copied, in
pieces of 16 KiB, through lists and joins to the socket. That costs 1.6 times nginx's CPU time per GiB. Here
OpenSSL has the socket, and one call encrypts and sends 512 KiB with the GIL released. It writes 16 KiB to the
socket at a time, each of which would wake the client; so those of a file are combined (TCP_CORK), which saves
another sixth. What Twisted's wrapper did besides is done here, phase by phase:

    opening ──handshake──▶ open ──close_notify, FIN──▶ closing ──their FIN──▶ closed
       └───────────────────failed: alert, FIN──────────────┘

- `opening` has no timeout of its own; the channel gives it the time of a request's head.
- A call may need the other direction: a write needs input, or a read needs room. That is noted, and the call
  is repeated when the socket is ready.
- A call without room keeps half a record, and must be repeated with the same bytes before anything else is
  sent (`_is_stuck`). Those of a file are read again: one buffer for all connections instead of 512 KiB for
  each. Mapped memory would not do either, as its pages count as ours.
- A close in the middle of a record is a FIN without close_notify: the client sees that data is missing.
- After our close we wait for the client's FIN, and drop what arrives: closing with unread bytes would be a
  reset, which can discard the end of the response on its way.
"""

import os
import socket
import struct
from contextlib import suppress
from typing import Any

from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mirrord.http.certificates import Certificates, reason_of
from mirrord.http.file_server import FileServer
from mirrord.http.forwarded import address_of
from mirrord.http.page_cache import PageCache
from mirrord.http.response import API_VERSION, Response
from mirrord.oci.errors import Unsupported

CHUNK_BYTES = 512 * 1024
_RECORD_BYTES = 16 * 1024
"""The most that a record contains, and that OpenSSL returns at once."""

_BYTES_ACKED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` of Linux's struct tcp_info."""

_PLAIN_HTTP = Response.of_error(Unsupported("this port speaks TLS: use https"), API_VERSION, status=400)


@implementer(ISSLTransport)
class TLSServer(FileServer):
    """A client's connection over TLS; `scratch` is a buffer of CHUNK_BYTES that connections share."""

    _log = Logger()

    chunk_bytes = CHUNK_BYTES
    _is_shaking_hands = True
    _is_stuck = False
    _is_closing = False
    _read_needs_room = False
    _write_needs_input = False

    def __init__(
        self,
        sock: socket.socket,
        *args: Any,
        certificates: Certificates,
        scratch: bytearray,
        pages: PageCache,
    ) -> None:
        self._tls: Any = certificates.accept(sock)
        # A second ClientHello uses the context of the first, which may have been replaced in the meantime.
        self._first_context = self._tls.get_context()
        self._scratch = memoryview(scratch)
        super().__init__(sock, *args, pages=pages)

    @property
    def is_opening(self) -> bool:
        """Whether the handshake is not complete, or has failed."""
        return self._is_shaking_hands

    def getPeerCertificate(self) -> Certificate | None:
        """Return the certificate that the client has presented, if any."""
        certificate: Certificate | None = self._tls.get_peer_certificate(as_cryptography=True)
        return certificate

    def progress(self) -> tuple[int, bool]:
        """Return how many bytes of TCP the client has acknowledged, and whether there are others.

        The bytes handed over do not help here: OpenSSL counts none of a chunk until all are sent.
        """
        (acked,) = _BYTES_ACKED.unpack(
            self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        )
        return acked, super().progress()[1]

    def doRead(self) -> Any:
        """Read; called by the reactor when something has arrived."""
        if self._is_closing:
            return self._drop()
        if self._is_shaking_hands:
            return self._shake_hands()
        if self._write_needs_input:
            self._write_needs_input = False
            self.startWriting()
        return self._read()

    def doWrite(self) -> Any:
        """Write; called by the reactor when the socket has room."""
        if self._is_closing:
            return main.CONNECTION_DONE
        if self._is_shaking_hands and not self.disconnecting:
            return self._shake_hands()
        if self._read_needs_room:
            self._read_needs_room = False
            return self.doRead()
        return super().doWrite()

    def writeSomeData(self, data: bytes) -> Any:
        """Encrypt and send what Twisted has buffered, up to CHUNK_BYTES."""
        try:
            return self._send(memoryview(data)[:CHUNK_BYTES]) if data else 0
        except ConnectionError:
            return main.CONNECTION_LOST

    def send_file(self, fd: int, offset: int, count: int) -> Deferred[None]:
        """Send some bytes of a file (FileServer), in full TCP segments."""
        self._cork(None, is_corked=True)
        return super().send_file(fd, offset, count).addBoth(self._cork, is_corked=False)

    def send_chunk(self, fd: int, offset: int, count: int) -> int:
        """Encrypt and send some bytes of a file (FileServer)."""
        read = os.preadv(fd, [self._scratch[:count]], offset)
        if not read:
            raise EOFError(f"the file ends at {offset}")
        return self._send(self._scratch[:read])

    def readConnectionLost(self, reason: Failure) -> None:
        """Handle the client's FIN."""
        if self._is_closing:
            self.connectionLost(reason)
        else:
            super().readConnectionLost(reason)

    def _read(self) -> Any:
        try:
            data = self._tls.recv(_RECORD_BYTES)
        except SSL.WantReadError:
            return None
        except SSL.WantWriteError:
            self._read_needs_room = True
            self.startWriting()
            return None
        except SSL.ZeroReturnError:
            return main.CONNECTION_DONE
        except SSL.Error as error:
            return self._fail(error)
        return self._dataReceived(data)

    def _shake_hands(self) -> Any:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self.stopWriting()
            return None
        except SSL.WantWriteError:
            self.startWriting()
            return None
        except SSL.Error as error:
            return self._refuse(error)
        self._is_shaking_hands = False
        if not self.is_writing():
            self.stopWriting()
        return None

    def _refuse(self, error: SSL.Error) -> Any:
        """End a failed handshake. OpenSSL has sent an alert; a client of plain HTTP gets a response."""
        reason = reason_of(error)
        self._log.debug(
            "TLS handshake with {peer} failed: {reason}", peer=address_of(self.getPeer()), reason=reason
        )
        if reason == "http request":
            with suppress(OSError):
                self.socket.send(_PLAIN_HTTP.head(b"HTTP/1.1", (b"Connection", b"close")) + _PLAIN_HTTP.body)
        return self._send_fin()

    def _fail(self, error: SSL.Error) -> Any:
        peer, reason = address_of(self.getPeer()), reason_of(error)
        self._log.debug("TLS connection with {peer} failed: {reason}", peer=peer, reason=reason)
        return main.CONNECTION_LOST

    def _send(self, data: memoryview) -> int:
        """Send all or nothing; after 0 it must be called with the same bytes, to which more may be added."""
        try:
            count: int = self._tls.send(data)
        except SSL.WantWriteError:
            self._is_stuck = True
            return 0
        except SSL.WantReadError:
            self._is_stuck = self._write_needs_input = True
            self.stopWriting()
            self.startReading()
            return 0
        except SSL.Error as error:
            self._fail(error)
            raise ConnectionError from None
        self._is_stuck = False
        return count

    def _cork(self, result: Any, *, is_corked: bool) -> Any:
        if self.connected:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, is_corked)
        return result

    def _postLoseConnection(self) -> Any:
        return self._close_tls()

    def _closeWriteConnection(self) -> Any:
        return self._close_tls()

    def _close_tls(self) -> Any:
        """Send close_notify, if the state of the connection allows it, and a FIN."""
        if self._is_shaking_hands or self._is_stuck:
            return self._send_fin()
        try:
            self._tls.shutdown()
        except SSL.WantWriteError:
            # When there is room, Twisted calls this again, as there is nothing else left to write.
            self.startWriting()
            return None
        except SSL.Error as error:
            return self._fail(error)
        if self.disconnecting:
            return self._send_fin()
        self.stopWriting()
        super()._closeWriteConnection()
        return None

    def _send_fin(self) -> Any:
        self._is_closing = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return main.CONNECTION_LOST
        self.stopWriting()
        self.startReading()
        return None

    def _drop(self) -> Any:
        try:
            dropped = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        return None if dropped else main.CONNECTION_DONE
