"""What holds for every connection that sends files: in order, taking turns, never padded."""

import itertools
import os
import socket
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mirrord.http.file_server import FileServer
from tests.fakes.cold import ColdPages

CONTENT = os.urandom(3 << 20)


class Waiter(Protocol):
    """Keeps its transport and the received bytes."""

    def __init__(self) -> None:
        self.made: Deferred[Any] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.received = b""

    def connectionMade(self) -> None:
        self.made.callback(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(None)


class FileServerCase(TestCase):
    """A connection from `make_transport`, and a client in threads that does the handshake in `handshake`."""

    protocol: Any
    protocol_type: type[Waiter] = Waiter

    async def setUp(self) -> None:  # type: ignore[override]
        self.pages: Any = ColdPages(warm_bytes=len(CONTENT))
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the test
        self.addCleanup(file.close)
        file.write(CONTENT)
        self.fd = file.fileno()
        self.client, self.transport, self.protocol = await self.connect()

    def make_transport(self) -> Callable[..., Any]:
        """Return the factory that replaces Twisted's tcp.Server."""
        raise NotImplementedError

    def handshake(self, client: socket.socket) -> socket.socket:
        """Do what precedes HTTP, as the client; called in a thread."""
        return client

    async def listen(self, protocol: Waiter) -> int:
        factory: Any = Factory.forProtocol(lambda: protocol)
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        port.transport = self.make_transport()
        self.addCleanup(port.stopListening)
        self.addCleanup(lambda: protocol.lost if protocol.transport else None)
        return int(port.getHost().port)

    async def connect(self) -> tuple[Any, Any, Waiter]:
        protocol = self.protocol_type()
        number = await self.listen(protocol)
        plain = socket.create_connection(("127.0.0.1", number), timeout=5)
        self.addCleanup(plain.close)
        transport = await protocol.made
        self.addCleanup(transport.abortConnection)
        client = await deferToThread(self.handshake, plain)
        self.addCleanup(client.close)
        return client, transport, protocol

    async def read_all(self, client: socket.socket | None = None) -> bytes:
        def read() -> bytes:
            with (client or self.client).makefile("rb") as file:
                return file.read()

        return await deferToThread(read)

    def send_file(self, offset: int, count: int) -> Deferred[None]:
        """Send a part of the file; a failure after the end of the test is not logged by a later one."""
        sending: Deferred[None] = self.transport.send_file(self.fd, offset, count)

        def ignore_failure() -> None:
            sending.addErrback(lambda _: None)

        self.addCleanup(ignore_failure)
        return sending

    async def until(self, is_so: Callable[[], object]) -> None:
        for _ in range(1000):
            if is_so():
                return
            await deferLater(reactor, 0.005)
        self.fail("condition still false after 5 s")

    def receive(self, count: int) -> int:
        """Receive this many bytes, in a thread."""
        received = 0
        while received < count:
            received += len(self.client.recv(count - received))
        return received


class FileServerTests(FileServerCase):
    """Not collected here: each kind of connection inherits these tests."""

    async def test_order(self) -> None:
        """A file comes between what was written before and what is written after it."""
        reading = ensureDeferred(self.read_all())
        self.transport.write(b"before")
        await self.send_file(1000, 2_000_000)
        self.transport.write(b"after")
        self.transport.loseConnection()

        self.assertEqual(b"before" + CONTENT[1000:2_001_000] + b"after", await reading)

    async def test_nothing(self) -> None:
        """No bytes are sent at once."""
        self.successResultOf(self.send_file(0, 0))

    async def test_truncated(self) -> None:
        """A file that is too short closes the connection, and nothing is padded."""
        os.ftruncate(self.fd, 1_000_000)
        reading = ensureDeferred(self.read_all())

        failed = self.send_file(0, len(CONTENT))

        await self.assertFailure(failed, EOFError)
        self.assertEqual(CONTENT[:1_000_000], await reading)

    async def test_unreadable(self) -> None:
        """An error of the file is reported, and closes the connection."""
        reading = ensureDeferred(self.read_all())
        folder = os.open("/", os.O_RDONLY)
        self.addCleanup(os.close, folder)

        await self.assertFailure(self.transport.send_file(folder, 0, 10), OSError)

        self.assertEqual(b"", await reading)

    async def test_client_leaves(self) -> None:
        """When the client disconnects, sending fails with the reason."""
        sending = self.send_file(0, len(CONTENT))
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.client.close()

        await self.assertFailure(sending, ConnectionLost)

    async def test_cold(self) -> None:
        """A chunk that is not in memory is read first, without waiting for room meanwhile."""
        self.pages.warm_bytes = self.transport.chunk_bytes
        sending = self.send_file(0, len(CONTENT))
        reading = ensureDeferred(self.read_all())
        while not self.pages.reads:
            await deferLater(reactor, 0.001)

        self.assertEqual(self.pages.reads[0][0], self.transport.chunk_bytes)
        writers: Any = reactor.getWriters()
        self.assertNotIn(self.transport, writers)
        self.assertFalse(self.transport.is_writing())
        self.pages.warm_bytes = len(CONTENT)
        self.pages.arrive()
        await sending
        self.transport.loseConnection()

        self.assertEqual(CONTENT, await reading)

    async def test_leaves_while_cold(self) -> None:
        """A connection that is closed before its page arrives is left alone."""
        self.pages.warm_bytes = 0
        sending = self.send_file(0, len(CONTENT))
        while not self.pages.reads:
            await deferLater(reactor, 0.001)
        self.client.close()
        await self.assertFailure(sending, Exception)

        self.pages.arrive()

        self.assertEqual([], self.flushLoggedErrors())

    async def test_cancel(self) -> None:
        """Sending stops when it is cancelled, also if the page arrives later."""
        self.pages.warm_bytes = 0
        sending = self.send_file(0, len(CONTENT))
        while not self.pages.reads:
            await deferLater(reactor, 0.001)
        sending.cancel()
        self.pages.arrive()
        self.failureResultOf(sending)

        reading = ensureDeferred(self.read_all())
        self.transport.loseConnection()

        self.assertEqual(b"", await reading)

    async def test_cancel_keeps_what_was_written(self) -> None:
        """What was written before is sent after cancelling; then nothing waits for room."""
        self.transport.write(b"before")
        sending = self.send_file(0, len(CONTENT))
        sending.cancel()
        self.failureResultOf(sending)

        self.assertEqual(b"before", await deferToThread(self.client.recv, 100))

        self.assertNotIn(self.transport, reactor.getWriters())

    async def test_lose_connection(self) -> None:
        """A connection can be closed in the middle of a file."""
        sending = self.send_file(0, len(CONTENT))
        self.transport.loseConnection()

        await self.assertFailure(sending, Exception)
        self.assertLess(len(await self.read_all()), len(CONTENT))

    async def test_turns(self) -> None:
        """Two connections take turns: neither waits for the other's file."""
        client, transport, _ = await self.connect()
        both = [ensureDeferred(self.read_all()), ensureDeferred(self.read_all(client))]
        order = []
        for one in (self.transport, transport):
            one.send_file(self.fd, 0, len(CONTENT)).addCallback(close, one)
            write = one.doWrite
            one.doWrite = lambda one=one, write=write: (order.append(one), write())[1]  # type: ignore

        self.assertEqual([CONTENT, CONTENT], [await one for one in both])
        self.assertGreater(len([1 for a, b in itertools.pairwise(order) if a is not b]), 2)


def close(_: None, transport: FileServer) -> None:
    transport.loseConnection()
