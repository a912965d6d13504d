"""A client's connection in memory: it sends to a site's channel, and reads the responses."""

from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import attrs
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mirrord.http.site import MirrorSite


class Wire(StringTransport):
    """A transport that reports how much its client has acknowledged.

    If the client does not read by itself (`taking`), each large write pauses the producer, as Twisted's own
    transports do. `socket` is that of a real connection, where the peer matters.
    """

    socket: Any = None
    taken = 0
    is_behind = False
    is_opening = False
    taking = True

    def write(self, data: bytes) -> None:
        """Write, and pause the producer when Twisted would."""
        super().write(data)
        if not self.taking and self.producer is not None and len(data) > 65_536:
            self.producer.pauseProducing()

    def progress(self) -> tuple[int, bool]:
        """Return the progress, like the real transports (http/file_server.py)."""
        return self.taken, self.is_behind


@attrs.frozen
class Got:
    """One response, as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Stream:
    def __init__(self, raw: bytes) -> None:
        self.file = BytesIO(raw)

    def makefile(self, *_: object) -> BytesIO:
        return self.file


@attrs.define(eq=False)
class Client:
    """One connection to a site."""

    site: MirrorSite
    wire: Any = attrs.field(factory=lambda: Wire(lenient=True))
    channel: Any = None

    def __attrs_post_init__(self) -> None:
        self.channel = self.site.buildProtocol(self.wire.getPeer())
        self.channel.makeConnection(self.wire)

    def send(self, data: bytes) -> None:
        """Send bytes, in one piece."""
        self.channel.dataReceived(data)

    def get(self, path: str, *headers: str, method: str = "GET") -> Got:
        """Send one request and read its response, which is complete at once."""
        self.wire.clear()
        self.send(head(path, *headers, method=method))
        return self.got(method)

    def got(self, method: str = "GET") -> Got:
        """Return the first response among the received bytes."""
        return read_answers(self.wire.value(), method)[0]

    def leave(self) -> None:
        """Close the connection from the client's side."""
        self.channel.connectionLost(Failure(ConnectionDone()))


def head(path: str, *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{method} {path} {version}", "Host: mirror", *headers, "", ""]).encode("latin-1")


def read_answers(raw: bytes, method: str = "GET") -> list[Got]:
    """Return all complete responses in a stream of bytes, parsed by http.client.

    Each must have the headers for browsers, once: no response of any kind is without.
    """
    stream: Any = _Stream(raw)
    answers = []
    while stream.file.tell() < len(raw):
        response = HTTPResponse(stream, method=method)
        # http.client closes its file after each answer; the next one still wants it.
        response.fp = stream.file
        stream.file.close = lambda: None
        response.begin()
        assert response.headers.get_all("X-Content-Type-Options") == ["nosniff"], raw
        (policy,) = response.headers.get_all("Content-Security-Policy", [])
        assert policy.startswith("default-src 'none'; "), policy
        body = response.read()
        answers.append(Got(response.status, {k.lower(): v for k, v in response.getheaders()}, body))
    return answers
