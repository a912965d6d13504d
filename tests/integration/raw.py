"""Send requests as bytes, well-formed or not."""

import re
import selectors
import socket
import time
from collections.abc import Sequence

import attrs

_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)
_MAX_RESPONSE = 256 * 1024


@attrs.frozen
class RawResponse:
    """The bytes a server sent in response: none, or a status line, headers and (part of) a body."""

    request: bytes
    content: bytes

    @property
    def status(self) -> int | None:
        """The status, or None without a response."""
        match = re.match(rb"HTTP/1\.[01] (\d{3}) ", self.content)
        return int(match.group(1)) if match else None

    @property
    def head(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2]


@attrs.define(eq=False)
class _Connection:
    request: bytes
    sock: socket.socket
    content: bytes = b""
    is_over: bool = False

    def receive(self) -> None:
        try:
            chunk = self.sock.recv(65536)
        except OSError:
            chunk = b""
        self.content += chunk
        self.is_over = not chunk or len(self.content) > _MAX_RESPONSE or self._is_whole()

    def _is_whole(self) -> bool:
        head, end, body = self.content.partition(b"\r\n\r\n")
        if not end or head.startswith(b"HTTP/1.1 100"):
            return False
        length = _LENGTH.search(head)
        is_bodiless = self.request.startswith(b"HEAD") or b" 304 " in head[:16] or b" 204 " in head[:16]
        return is_bodiless or (length is not None and len(body) >= int(length.group(1)))


def exchange(port: int, requests: Sequence[bytes], timeout_seconds: float = 0.5) -> list[RawResponse]:
    """Send each request on its own connection; close all once they are answered, or after the timeout."""
    connections = []
    with selectors.DefaultSelector() as selector:
        for request in requests:
            sock = socket.create_connection(("127.0.0.1", port), 5)
            connection = _Connection(request, sock)
            connections.append(connection)
            selector.register(sock, selectors.EVENT_READ, connection)
            _send(sock, request)
        deadline = time.monotonic() + timeout_seconds
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                key.data.receive()
                if key.data.is_over:
                    selector.unregister(key.fileobj)
    for connection in connections:
        connection.sock.close()
    return [RawResponse(connection.request, connection.content) for connection in connections]


def _send(sock: socket.socket, request: bytes) -> None:
    """Send a request, of which the server may read only the beginning."""
    sock.settimeout(5)
    try:
        sock.sendall(request)
    except OSError:
        return
