"""Requests as bytes, well-formed or not, and what came back for each."""

import re
import selectors
import socket
import time
from collections.abc import Sequence

import attrs

_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)
_MOST = 256 * 1024


@attrs.frozen
class Spoken:
    """What a server said to one request: nothing, or a status line, headers and (some of) a body."""

    request: bytes
    answer: bytes

    @property
    def status(self) -> int | None:
        """The status; None where there was no answer."""
        match = re.match(rb"HTTP/1\.[01] (\d{3}) ", self.answer)
        return int(match.group(1)) if match else None

    @property
    def head(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[2]


@attrs.define(eq=False)
class _Talk:
    request: bytes
    sock: socket.socket
    answer: bytes = b""
    is_over: bool = False

    def hear(self) -> None:
        try:
            chunk = self.sock.recv(65536)
        except OSError:
            chunk = b""
        self.answer += chunk
        self.is_over = not chunk or len(self.answer) > _MOST or self._is_whole()

    def _is_whole(self) -> bool:
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if not end or head.startswith(b"HTTP/1.1 100"):
            return False
        length = _LENGTH.search(head)
        is_bodiless = self.request.startswith(b"HEAD") or b" 304 " in head[:16] or b" 204 " in head[:16]
        return is_bodiless or (length is not None and len(body) >= int(length.group(1)))


def ask(port: int, requests: Sequence[bytes], patience_seconds: float = 0.5) -> list[Spoken]:
    """Send each request over a connection of its own; wait so long for all answers, and hang up."""
    talks = []
    with selectors.DefaultSelector() as selector:
        for request in requests:
            sock = socket.create_connection(("127.0.0.1", port), 5)
            talk = _Talk(request, sock)
            talks.append(talk)
            selector.register(sock, selectors.EVENT_READ, talk)
            _send(sock, request)
        deadline = time.monotonic() + patience_seconds
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                key.data.hear()
                if key.data.is_over:
                    selector.unregister(key.fileobj)
    for talk in talks:
        talk.sock.close()
    return [Spoken(talk.request, talk.answer) for talk in talks]


def _send(sock: socket.socket, request: bytes) -> None:
    """Send what the server takes of it; it may well hang up before the end."""
    sock.settimeout(5)
    try:
        sock.sendall(request)
    except OSError:
        return
