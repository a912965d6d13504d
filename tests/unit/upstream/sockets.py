"""Real sockets on loopback: scripted servers, and clients of the real reactor."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mirrord.config.config import UpstreamConfig
from mirrord.observe.metrics import Metrics
from mirrord.upstream.client import UpstreamClient

REACTOR: Any = reactor


class Peer(Protocol):
    """One accepted connection: records what it receives and answers each complete request head."""

    transport: Any

    def connectionMade(self) -> None:
        self.received = b""
        self.is_lost = False
        self._pending = b""
        self.factory.peers.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._pending += data
        while b"\r\n\r\n" in self._pending:
            head, _, self._pending = self._pending.partition(b"\r\n\r\n")
            self.factory.answer(self, head.decode("latin-1"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True


class Server(Factory):
    """Accepts connections; `answer` is called with the connection and each request's head."""

    protocol = Peer
    noisy = False

    def __init__(self, answer: Callable[[Peer, str], None]) -> None:
        self.answer = answer
        self.peers: list[Peer] = []


class SocketTestCase(TestCase):
    """Listens on free ports of loopback and closes everything after the test."""

    def listen(self, answer: Callable[[Peer, str], None], tls: Any = None) -> tuple[Server, int]:
        """Return a server and the port that it listens on; with TLS if options are given."""
        server = Server(answer)
        port: Any
        if tls is None:
            port = REACTOR.listenTCP(0, server, interface="127.0.0.1")
        else:
            port = REACTOR.listenSSL(0, server, tls, interface="127.0.0.1")

        async def stop() -> None:
            await maybeDeferred(port.stopListening)
            for peer in server.peers:
                if not peer.is_lost:
                    peer.transport.abortConnection()
            await until(lambda: all(peer.is_lost for peer in server.peers))

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        return server, port.getHost().port

    def folder(self) -> Path:
        """Return a folder that is deleted after the test."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def client(self, url: str, environment: dict[str, str] | None = None, **config: Any) -> UpstreamClient:
        """Return a client of the real network."""
        client = UpstreamClient(
            UpstreamConfig(name="here", url=url, **config),
            reactor=REACTOR,
            metrics=Metrics(["here"]),
            random=Random(1),
            environment=environment or {},
        )
        self.addCleanup(client.close)
        return client


async def until(is_true: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until a condition is true."""
    for _ in range(int(seconds * 100)):
        if is_true():
            return
        await deferLater(REACTOR, 0.01)
    raise AssertionError("it did not happen")


def http_response(body: bytes = b"", status: str = "200 OK", headers: str = "") -> bytes:
    """Return an HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
