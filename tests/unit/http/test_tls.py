"""TLS with OpenSSL on the socket: files, slow clients, and every way in which a connection can close."""

import contextlib
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from mirrord.http.tls import CHUNK_BYTES
from tests.unit.http import file_server_case
from tests.unit.http.file_server_case import CONTENT, Waiter
from tests.unit.http.tls_case import CERTIFICATES, OpenSSLCase, SecureCase, connect


class SecureFileTests(SecureCase, file_server_case.FileServerTests):
    """The tests of plain connections, encrypted."""


@implementer(IHalfCloseableProtocol)
class HalfWaiter(Waiter):
    """Notes when the client closes its half, and continues."""

    is_half_closed = False

    def readConnectionLost(self) -> None:
        self.is_half_closed = True

    def writeConnectionLost(self) -> None:
        """Nothing."""


class EndTests(SecureCase):
    protocol: HalfWaiter
    protocol_type = HalfWaiter

    async def test_waits_for_theirs(self) -> None:
        """After close_notify a connection waits for the client's FIN, and drops what still arrives."""
        self.transport.loseConnection()
        await deferToThread(self.client.sendall, b"x" * 100_000)
        await deferLater(reactor, 0.05)
        self.assertTrue(self.transport.connected)
        self.assertEqual(b"", self.protocol.received)

        self.client.close()
        await self.protocol.lost

    async def test_client_without_close_notify(self) -> None:
        """A client that closes without close_notify has disconnected."""
        self.transport.write(b"so that nothing is unread, which would make a reset of it")
        await deferToThread(self.client.recv, 100)
        socket.socket(fileno=self.client.detach()).close()

        await self.until(lambda: self.protocol.is_half_closed)

    async def test_half_close(self) -> None:
        """A client that closes its half still gets the response."""
        protocol = HalfWaiter()
        number = await self.listen(protocol)

        def ask() -> int:
            with socket.create_connection(("127.0.0.1", number), timeout=5) as plain:
                tls = connect(plain)
                tls.send(b"all of it, please")
                tls.shutdown()
                received = 0
                with contextlib.suppress(SSL.ZeroReturnError):
                    while True:
                        received += len(tls.recv(65536))
                return received

        asking = deferToThread(ask)
        await self.until(lambda: protocol.is_half_closed)
        self.assertEqual(b"all of it, please", protocol.received)
        transport: Any = protocol.transport
        await transport.send_file(self.fd, 0, len(CONTENT))
        transport.loseConnection()

        self.assertEqual(len(CONTENT), await asking)

    async def test_our_half(self) -> None:
        """Our half can be closed alone: the client sees that, and we still receive."""
        self.transport.write(b"no")
        self.transport.loseWriteConnection()
        self.assertEqual(b"no", await self.read_all())

        await deferToThread(self.client.sendall, b"but")

        await self.until(lambda: self.protocol.received == b"but")

    async def test_lose_while_opening(self) -> None:
        """A connection can be closed during the handshake."""
        protocol = Waiter()
        client = socket.create_connection(("127.0.0.1", await self.listen(protocol)), timeout=5)
        self.addCleanup(client.close)
        (await protocol.made).loseConnection()

        self.assertEqual(b"", await deferToThread(client.recv, 100))
        client.close()
        await protocol.lost


class CloseNotifyTests(OpenSSLCase):
    """How a connection closes, as seen by a client that insists on close_notify."""

    async def test_closed(self) -> None:
        """A connection that is closed sends close_notify after all that was written."""
        self.transport.write(b"the end")
        self.transport.loseConnection()

        self.assertEqual((b"the end", True), await self.read_to_end())

    async def test_closed_without_room(self) -> None:
        """A close_notify for which the socket has no room is sent when it has."""
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        self.transport.write(CONTENT)
        self.transport.loseConnection()
        await deferLater(reactor, 0.05)

        self.assertEqual((CONTENT, True), await self.read_to_end())

    async def test_cut(self) -> None:
        """A response that is aborted within a record ends without close_notify: the client sees that."""
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        sending = self.send_file(0, len(CONTENT))
        await self.until(lambda: self.transport._is_stuck)
        sending.cancel()
        self.failureResultOf(sending)
        self.transport.loseConnection()

        received, is_closed = await self.read_to_end()
        self.assertFalse(is_closed)
        self.assertEqual(CONTENT[: len(received)], received)
        self.assertLess(len(received), len(CONTENT))


class SlowTests(SecureCase):
    """Clients that read less than is written."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)

    async def test_same_bytes(self) -> None:
        """A chunk without room is sent again, though other connections have used the buffer since."""
        scratch = bytearray(CHUNK_BYTES)
        self.transport._scratch = memoryview(scratch)
        reading = ensureDeferred(self.read_all())
        sending = self.send_file(0, len(CONTENT))
        sending.addCallback(file_server_case.close, self.transport)
        while not sending.called:
            scratch[:] = bytes(CHUNK_BYTES)
            await deferLater(reactor, 0)

        self.assertEqual(CONTENT, await reading)

    async def test_buffered(self) -> None:
        """What Twisted buffers arrives in order, however little room there is, and while more is written."""
        reading = ensureDeferred(self.read_all())
        for first in range(0, len(CONTENT), 100_000):
            self.transport.write(CONTENT[first : first + 100_000])
            await deferLater(reactor, 0)
        self.transport.loseConnection()

        self.assertEqual(CONTENT, await reading)

    async def test_written_meanwhile(self) -> None:
        """What is written while a file is being sent comes after it."""
        sending = self.send_file(0, len(CONTENT))
        await self.until(lambda: self.transport._is_stuck)
        self.transport.write(b"after")
        reading = ensureDeferred(self.read_all())
        await sending
        self.transport.loseConnection()

        self.assertEqual(CONTENT + b"after", await reading)

    async def test_progress(self) -> None:
        """Each read by the client is progress, though no chunk is complete; without one it is behind."""
        self.send_file(0, len(CONTENT)).addErrback(lambda _: None)
        await self.until(lambda: self.transport._is_stuck)
        await deferLater(reactor, 0.1)
        taken, is_behind = self.transport.progress()
        self.assertTrue(is_behind)
        await deferLater(reactor, 0.1)
        self.assertEqual((taken, True), self.transport.progress())

        await deferToThread(self.receive, 1_000_000)

        await self.until(lambda: self.transport.progress()[0] > taken)


class ReluctantConnection:
    """An OpenSSL connection that does not write before it has read, nor read before it can write."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._received = b""
        self._has_read = self._has_shut_down = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def send(self, data: Any) -> int:
        if not self._has_read:
            raise SSL.WantReadError
        return int(self._connection.send(data))

    def recv(self, count: int) -> bytes:
        if not self._has_read:
            self._received = self._connection.recv(count)
            self._has_read = True
            raise SSL.WantWriteError
        received, self._received = self._received, b""
        return received or bytes(self._connection.recv(count))

    def shutdown(self) -> bool:
        if not self._has_shut_down:
            self._has_shut_down = True
            raise SSL.WantWriteError
        return bool(self._connection.shutdown())


class ReluctantTests(OpenSSLCase):
    class certificates:  # noqa: N801 - stands for an attribute
        @staticmethod
        def accept(connected: socket.socket) -> Any:
            return ReluctantConnection(CERTIFICATES.accept(connected))

    async def test_wants(self) -> None:
        """A write that needs input and a read that needs room are completed, without busy waiting."""
        sending = self.send_file(0, 100_000)
        await deferLater(reactor, 0.05)
        self.assertNotIn(self.transport, reactor.getWriters())

        await deferToThread(self.client.sendall, b"question")
        await sending
        self.assertEqual(100_000, await deferToThread(self.receive, 100_000))
        await self.until(lambda: self.protocol.received == b"question")

        self.transport.loseConnection()
        self.assertEqual((b"", True), await self.read_to_end())
