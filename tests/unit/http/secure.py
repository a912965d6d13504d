"""A connection over TLS, and clients that trust it."""

import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from mirrord.http.tls import CHUNK_BYTES, TLSServer
from tests.fakes.certified import Certified
from tests.unit.http.file_server import FileServerCase

CERTIFIED = Certified(Path(tempfile.mkdtemp()))
PAIR = CERTIFIED.issue("localhost")
CERTIFICATES = CERTIFIED.certificates(PAIR)


class SecureCase(FileServerCase):
    certificates: Any = CERTIFICATES

    def make_transport(self) -> Callable[..., Any]:
        return partial(TLSServer, self.certificates, bytearray(CHUNK_BYTES), self.pages)

    def greet(self, client: socket.socket) -> socket.socket:
        return CERTIFIED.trust().wrap_socket(client, server_hostname="localhost")


def connect(plain: socket.socket, context: SSL.Context | None = None) -> Any:
    """OpenSSL's client on a socket that blocks: it can do what Python's own cannot."""
    plain.settimeout(None)
    tls = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
    tls.set_connect_state()
    tls.do_handshake()
    return tls
