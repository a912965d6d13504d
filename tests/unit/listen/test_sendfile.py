"""Files leave a TCP connection by sendfile: in order, in turns, never padded."""

import itertools
import os
import socket
import tempfile
from functools import partial
from typing import Any

from twisted.internet import abstract, reactor, tcp
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mirrord.listen.sendfile import CHUNK_BYTES, SendfileServer
from tests.fakes.cold import ColdPages

CONTENT = os.urandom(3 << 20)


def _close(_: None, transport: SendfileServer) -> None:
    transport.loseConnection()


class _Waiter(Protocol):
    def __init__(self, met: Deferred[Any]) -> None:
        self.met = met
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.met.callback(self.transport)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(None)


class SendfileTests(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.pages: Any = ColdPages(warm_bytes=len(CONTENT))
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the test
        self.addCleanup(file.close)
        file.write(CONTENT)
        self.fd = file.fileno()
        self.client, self.transport, self.protocol = await self.connect()

    async def connect(self) -> tuple[socket.socket, SendfileServer, _Waiter]:
        met: Deferred[SendfileServer] = Deferred()
        protocol = _Waiter(met)
        factory: Any = Factory.forProtocol(lambda: protocol)
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        port.transport = partial(SendfileServer, self.pages)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)
        self.addCleanup(client.close)
        self.addCleanup(lambda: protocol.lost if protocol.transport else None)
        transport = await met
        self.addCleanup(transport.abortConnection)
        await port.stopListening()
        return client, transport, protocol

    async def read_all(self, client: socket.socket | None = None) -> bytes:
        def read() -> bytes:
            with (client or self.client).makefile("rb") as file:
                return file.read()

        return await deferToThread(read)

    async def test_order(self) -> None:
        """A file stands between what was written before and what is written after it."""
        reading = ensureDeferred(self.read_all())
        self.transport.write(b"before")
        await self.transport.send_file(self.fd, 1000, 2_000_000)
        self.transport.write(b"after")
        self.transport.loseConnection()

        self.assertEqual(b"before" + CONTENT[1000:2_001_000] + b"after", await reading)

    async def test_nothing(self) -> None:
        """No bytes are sent at once."""
        self.successResultOf(self.transport.send_file(self.fd, 0, 0))

    async def test_progress(self) -> None:
        """What the client took is told, and that some waits."""
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        self.assertEqual((0, True), self.transport.progress())

        received = await deferToThread(self._receive, 1_000_000)
        self.assertGreaterEqual(self.transport.progress()[0], received)
        reading = ensureDeferred(self.read_all())
        await sending
        self.transport.loseConnection()

        self.assertEqual(len(CONTENT), received + len(await reading))

    async def test_held_by_the_kernel(self) -> None:
        """What the kernel took and the client did not is not taken: a slow reader is seen to move."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        await deferLater(reactor, 0.1)

        taken, is_behind = self.transport.progress()
        self.assertTrue(is_behind)
        self.assertLess(taken, self.transport.handed_over)

        self.transport.abortConnection()
        await self.assertFailure(sending, Exception)

    def _receive(self, count: int) -> int:
        received = 0
        while received < count:
            received += len(self.client.recv(count - received))
        return received

    async def test_truncated(self) -> None:
        """A file that is shorter than it should be ends the connection, and nothing is made up."""
        os.ftruncate(self.fd, 1_000_000)
        reading = ensureDeferred(self.read_all())

        failed = self.transport.send_file(self.fd, 0, len(CONTENT))

        await self.assertFailure(failed, EOFError)
        self.assertEqual(CONTENT[:1_000_000], await reading)

    async def test_unreadable(self) -> None:
        """An error of the file's is told, and ends the connection."""
        reading = ensureDeferred(self.read_all())
        folder = os.open("/", os.O_RDONLY)
        self.addCleanup(os.close, folder)

        await self.assertFailure(self.transport.send_file(folder, 0, 10), OSError)

        self.assertEqual(b"", await reading)

    async def test_client_leaves(self) -> None:
        """When the client leaves, the sending fails with the connection's end."""
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.client.close()

        await self.assertFailure(sending, ConnectionLost)

    async def test_cold(self) -> None:
        """A chunk that is not in memory is fetched first, and the reactor is not asked for room meanwhile."""
        self.pages.warm_bytes = CHUNK_BYTES
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        reading = ensureDeferred(self.read_all())
        while not self.pages.asked:
            await deferLater(reactor, 0.001)

        self.assertEqual(self.pages.asked[0][0], CHUNK_BYTES)
        writers: Any = reactor.getWriters()
        self.assertNotIn(self.transport, writers)
        self.assertFalse(self.transport.is_writing())
        self.pages.warm_bytes = len(CONTENT)
        self.pages.arrive()
        await sending
        self.transport.loseConnection()

        self.assertEqual(CONTENT, await reading)

    async def test_leaves_while_cold(self) -> None:
        """A connection that is gone when its page arrives is left alone."""
        self.pages.warm_bytes = 0
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        while not self.pages.asked:
            await deferLater(reactor, 0.001)
        self.client.close()
        await self.assertFailure(sending, Exception)

        self.pages.arrive()

        self.assertEqual([], self.flushLoggedErrors())

    async def test_cancel(self) -> None:
        """A cancelled sending stops, whatever the page cache brings later."""
        self.pages.warm_bytes = 0
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        while not self.pages.asked:
            await deferLater(reactor, 0.001)
        sending.cancel()
        self.pages.arrive()
        self.failureResultOf(sending)

        reading = ensureDeferred(self.read_all())
        self.transport.loseConnection()

        self.assertEqual(b"", await reading)

    async def test_cancel_keeps_what_was_written(self) -> None:
        """What was written before a sending that is cancelled leaves; then no room is asked for."""
        self.transport.write(b"before")
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        sending.cancel()
        self.failureResultOf(sending)

        self.assertEqual(b"before", await deferToThread(self.client.recv, 100))

        self.assertNotIn(self.transport, reactor.getWriters())

    async def test_lose_connection(self) -> None:
        """A connection that is told to close in the middle of a file closes."""
        sending = self.transport.send_file(self.fd, 0, len(CONTENT))
        self.transport.loseConnection()

        await self.assertFailure(sending, Exception)
        self.assertLess(len(await self.read_all()), len(CONTENT))

    async def test_turns(self) -> None:
        """Two connections take turns: neither waits for the other's file."""
        client, transport, _ = await self.connect()
        both = [ensureDeferred(self.read_all()), ensureDeferred(self.read_all(client))]
        order = []
        for one in (self.transport, transport):
            one.send_file(self.fd, 0, len(CONTENT)).addCallback(_close, one)
            write = one.doWrite
            one.doWrite = lambda one=one, write=write: (order.append(one), write())[1]  # type: ignore

        self.assertEqual([CONTENT, CONTENT], [await one for one in both])
        self.assertGreater(len([1 for a, b in itertools.pairwise(order) if a is not b]), 2)


class TwistedTests(SynchronousTestCase):
    def test_private_parts(self) -> None:
        """The parts of Twisted's transport that we rely on are there, though they are private."""
        for name in (
            "dataBuffer",
            "doWrite",
            "writeSomeData",
            "stopWriting",
            "disconnecting",
        ):
            self.assertTrue(hasattr(tcp.Server, name), name)
        self.assertIn("_tempDataLen", abstract.FileDescriptor.write.__code__.co_names)
