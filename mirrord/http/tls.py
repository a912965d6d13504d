"""TLSServer: a client's TLS connection, with OpenSSL on the socket itself.

Twisted wraps TLS around a transport: OpenSSL encrypts into memory, from which the bytes are copied, in
pieces of 16 KiB, through lists and joins to the socket. That costs 1.6 times nginx's CPU a GiB. Here
OpenSSL is given the socket, and one call encrypts and sends 512 KiB with the GIL released. It writes
16 KiB to the socket at a time, each of which would wake the client; so a file's are held together
(TCP_CORK), which saves another sixth. What the wrapper did besides is then ours, phase by phase:

    opening ──handshake──▶ open ──close_notify, FIN──▶ parting ──their FIN──▶ gone
       └───────────────────failed: alert, FIN──────────────┘

- `opening` has no end of its own; the channel gives it the time of a request's head.
- A call may want the other direction: writing waits for input and reading for room. Both are noted,
  and asked again from where they can go on.
- A call that found no room keeps half a record, and must be repeated with the same bytes before
  anything else is sent (`_is_stuck`). For a file they are read again: one buffer for all connections
  instead of 512 KiB for each. It cannot be mapped memory either, whose pages count as ours.
- A close in the middle of a record is a FIN without close_notify: the client sees that it was cut.
- Parting waits for the client's own FIN and drops what comes: a close with unread bytes would be a
  reset, which can eat our last words on their way.
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
"""The most that a record holds, and that OpenSSL gives at once."""

_BYTES_ACKED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` of Linux's struct tcp_info."""

_NOT_HTTPS = Response.of_error(Unsupported("this port speaks TLS: ask by https"), API_VERSION, status=400)


@implementer(ISSLTransport)
class TLSServer(FileServer):
    """A client's connection over TLS. `scratch` is memory of CHUNK_BYTES that all of them may share."""

    _log = Logger()

    chunk_bytes = CHUNK_BYTES
    _is_shaking_hands = True
    _is_stuck = False
    _is_parting = False
    _reading_wants_room = False
    _writing_wants_input = False

    def __init__(
        self,
        certificates: Certificates,
        scratch: bytearray,
        pages: PageCache,
        sock: socket.socket,
        *args: Any,
    ) -> None:
        self._tls: Any = certificates.accept(sock)
        # A second ClientHello asks the context that the connection began with, which may be replaced by then.
        self._first_context = self._tls.get_context()
        self._scratch = memoryview(scratch)
        super().__init__(pages, sock, *args)

    @property
    def is_opening(self) -> bool:
        """Whether the handshake is under way, or has failed."""
        return self._is_shaking_hands

    def getPeerCertificate(self) -> Certificate | None:
        """The certificate that the client has shown, if any."""
        certificate: Certificate | None = self._tls.get_peer_certificate(as_cryptography=True)
        return certificate

    def progress(self) -> tuple[int, bool]:
        """What the client has acknowledged in bytes of TCP, and whether something waits that it has not.

        Bytes handed over do not tell, as elsewhere: OpenSSL counts none of a chunk until all are sent.
        """
        (acked,) = _BYTES_ACKED.unpack(
            self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        )
        return acked, super().progress()[1]

    def doRead(self) -> Any:
        """Called by the reactor when something has come."""
        if self._is_parting:
            return self._drop()
        if self._is_shaking_hands:
            return self._shake_hands()
        if self._writing_wants_input:
            self._writing_wants_input = False
            self.startWriting()
        return self._read()

    def doWrite(self) -> Any:
        """Called by the reactor when the socket has room."""
        if self._is_parting:
            return main.CONNECTION_DONE
        if self._is_shaking_hands and not self.disconnecting:
            return self._shake_hands()
        if self._reading_wants_room:
            self._reading_wants_room = False
            return self.doRead()
        return super().doWrite()

    def writeSomeData(self, data: bytes) -> Any:
        """Encrypt and send what Twisted has buffered, up to CHUNK_BYTES."""
        try:
            return self._send(memoryview(data)[:CHUNK_BYTES]) if data else 0
        except ConnectionError:
            return main.CONNECTION_LOST

    def send_file(self, fd: int, offset: int, count: int) -> Deferred[None]:
        """Send some bytes of a file (FileServer), in as full segments of TCP as they make."""
        self._cork(None, is_held=True)
        return super().send_file(fd, offset, count).addBoth(self._cork, is_held=False)

    def send_chunk(self, fd: int, offset: int, count: int) -> int:
        """Encrypt and send some bytes of a file (FileServer)."""
        read = os.preadv(fd, [self._scratch[:count]], offset)
        if not read:
            raise EOFError(f"the file ends at {offset}")
        return self._send(self._scratch[:read])

    def readConnectionLost(self, reason: Failure) -> None:
        """The client has no more to say."""
        if self._is_parting:
            self.connectionLost(reason)
        else:
            super().readConnectionLost(reason)

    def _read(self) -> Any:
        try:
            data = self._tls.recv(_RECORD_BYTES)
        except SSL.WantReadError:
            return None
        except SSL.WantWriteError:
            self._reading_wants_room = True
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
        """OpenSSL has told the client what is wrong, but for one that speaks no TLS."""
        reason = reason_of(error)
        self._log.debug("no TLS with {peer}: {reason}", peer=address_of(self.getPeer()), reason=reason)
        if reason == "http request":
            with suppress(OSError):
                self.socket.send(_NOT_HTTPS.head(b"HTTP/1.1", (b"Connection", b"close")) + _NOT_HTTPS.body)
        return self._part()

    def _fail(self, error: SSL.Error) -> Any:
        peer, reason = address_of(self.getPeer()), reason_of(error)
        self._log.debug("TLS with {peer} broke: {reason}", peer=peer, reason=reason)
        return main.CONNECTION_LOST

    def _send(self, data: memoryview) -> int:
        """Send all of it, or none for now: then the same bytes have to come again, or more of them."""
        try:
            count: int = self._tls.send(data)
        except SSL.WantWriteError:
            self._is_stuck = True
            return 0
        except SSL.WantReadError:
            self._is_stuck = self._writing_wants_input = True
            self.stopWriting()
            self.startReading()
            return 0
        except SSL.Error as error:
            self._fail(error)
            raise ConnectionError from None
        self._is_stuck = False
        return count

    def _cork(self, result: Any, *, is_held: bool) -> Any:
        if self.connected:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, is_held)
        return result

    def _postLoseConnection(self) -> Any:
        return self._say_goodbye()

    def _closeWriteConnection(self) -> Any:
        return self._say_goodbye()

    def _say_goodbye(self) -> Any:
        """Say that no more will come: close_notify, where that can be said, and FIN."""
        if self._is_shaking_hands or self._is_stuck:
            return self._part()
        try:
            self._tls.shutdown()
        except SSL.WantWriteError:
            # Asked for room again, Twisted comes here again: there is nothing else left to write.
            self.startWriting()
            return None
        except SSL.Error as error:
            return self._fail(error)
        if self.disconnecting:
            return self._part()
        self.stopWriting()
        super()._closeWriteConnection()
        return None

    def _part(self) -> Any:
        self._is_parting = True
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
