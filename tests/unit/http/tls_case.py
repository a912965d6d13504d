"""A connection over TLS, and clients that trust its certificate."""

import socket
import struct
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.threads import deferToThread

from mirrord.http.tls import CHUNK_BYTES, TLSServer
from tests.fakes.certified import Certified
from tests.unit.http.file_server_case import FileServerCase

CERTIFIED = Certified(Path(tempfile.mkdtemp()))
PAIR = CERTIFIED.issue("localhost")
CERTIFICATES = CERTIFIED.certificates(PAIR)


class SecureCase(FileServerCase):
    certificates: Any = CERTIFICATES

    def make_transport(self) -> Callable[..., Any]:
        return partial(
            TLSServer,
            certificates=self.certificates,
            scratch=bytearray(CHUNK_BYTES),
            pages=self.pages,
        )

    def handshake(self, client: socket.socket) -> socket.socket:
        return CERTIFIED.trust().wrap_socket(client, server_hostname="localhost")


class OpenSSLCase(SecureCase):
    """The same with a client that knows whether a connection ended with close_notify.

    Python's own does not in every version: the ssl of Debian 12 reports both ends alike.
    """

    def handshake(self, client: socket.socket) -> Any:
        return connect(client)

    async def read_to_end(self) -> tuple[bytes, bool]:
        """Return what the client received, and whether close_notify ended it; a reset is an error."""
        return await deferToThread(read_to_end, self.client)


def read_to_end(tls: Any) -> tuple[bytes, bool]:
    received = b""
    while True:
        try:
            received += tls.recv(65_536)
        except SSL.ZeroReturnError:
            return received, True
        except SSL.Error as error:
            if "unexpected eof" not in str(error).lower():
                raise
            return received, False


def connect(plain: socket.socket, context: SSL.Context | None = None) -> Any:
    """Return a client of pyOpenSSL, which can do what Python's own cannot; it reads for 5 s at most."""
    plain.settimeout(None)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    tls = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
    tls.set_connect_state()
    tls.do_handshake()
    return tls
