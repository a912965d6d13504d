"""TLS with OpenSSL on the socket: files, handshakes, and every way in which a connection can end."""

import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from mirrord.listen.secure import CHUNK_BYTES, SecureServer
from tests.fakes.certified import Certified
from tests.unit.listen import file_server
from tests.unit.listen.file_server import FileServerCase

CERTIFIED = Certified(Path(tempfile.mkdtemp()))
PAIR = CERTIFIED.issue("localhost")


class SecureCase(FileServerCase):
    certificates: ClassVar[Any] = CERTIFIED.certificates(PAIR)

    def make_transport(self) -> Callable[..., Any]:
        return partial(SecureServer, self.certificates, bytearray(CHUNK_BYTES), self.pages)

    def greet(self, client: socket.socket) -> socket.socket:
        return CERTIFIED.trust().wrap_socket(client, server_hostname="localhost")


class SecureFileTests(SecureCase, file_server.FileServerTests):
    """All that plain connections promise, encrypted."""
