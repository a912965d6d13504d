"""A client's connection in memory: what it sends goes to a site's channel, what it gets is read back."""

from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import attrs
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mirrord.http.site import MirrorSite


class Wire(StringTransport):
    """A transport that knows how much its client took, and whose client may take nothing by itself.

    Then each large write pauses the producer, as Twisted's own transports do.
    """

    taken = 0
    is_behind = False
    is_opening = False
    taking = True

    def write(self, data: bytes) -> None:
        """Write, and ask for a pause where Twisted would."""
        super().write(data)
        if not self.taking and self.producer is not None and len(data) > 65_536:
            self.producer.pauseProducing()

    def progress(self) -> tuple[int, bool]:
        """What the real transports tell (http/file_server.py)."""
        return self.taken, self.is_behind


@attrs.frozen
class Got:
    """One answer, as a client reads it."""

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
        """Send one request and read its answer, which is here at once."""
        self.wire.clear()
        self.send(head(path, *headers, method=method))
        return self.got(method)

    def got(self, method: str = "GET") -> Got:
        """The first answer among the bytes that came."""
        return read_answers(self.wire.value(), method)[0]

    def leave(self) -> None:
        """Close the connection from the client's side."""
        self.channel.connectionLost(Failure(ConnectionDone()))


def head(path: str, *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {path} {version}", "Host: mirror", *headers, "", ""]).encode("latin-1")


def read_answers(raw: bytes, method: str = "GET") -> list[Got]:
    """All complete answers in a stream of bytes, by an HTTP client that is not ours."""
    stream: Any = _Stream(raw)
    answers = []
    while stream.file.tell() < len(raw):
        response = HTTPResponse(stream, method=method)
        # http.client closes its file after each answer; the next one still wants it.
        response.fp = stream.file
        stream.file.close = lambda: None
        response.begin()
        body = response.read()
        answers.append(Got(response.status, {k.lower(): v for k, v in response.getheaders()}, body))
    return answers
