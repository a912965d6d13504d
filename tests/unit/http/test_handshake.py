"""The TLS handshake accepts valid clients, and reports to the others what is wrong."""

import contextlib
import random
import socket
import ssl
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from tests.unit.http.file_server_case import CONTENT, Waiter
from tests.unit.http.tls_case import CERTIFIED, SecureCase, connect


class HandshakeTests(SecureCase):
    async def test_interface(self) -> None:
        """It is a secure transport for Twisted, so that a request knows its scheme."""
        verifyObject(ISSLTransport, self.transport)

    async def test_opening(self) -> None:
        """A connection is opening until the handshake is complete."""
        protocol = Waiter()
        client = socket.create_connection(("127.0.0.1", await self.listen(protocol)), timeout=5)
        self.addCleanup(client.close)
        transport = await protocol.made
        client.sendall(b"\x16\x03\x01\x02")
        await deferLater(reactor, 0.05)

        self.assertTrue(transport.is_opening)
        self.assertFalse(self.transport.is_opening)
        transport.abortConnection()

    async def test_byte_by_byte(self) -> None:
        """A handshake may arrive byte by byte."""
        protocol = Waiter()
        number = await self.listen(protocol)

        def send_slowly() -> str | None:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = CERTIFIED.trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
            with socket.create_connection(("127.0.0.1", number), timeout=5) as plain:
                while True:
                    try:
                        tls.do_handshake()
                        return tls.version()
                    except ssl.SSLWantReadError:
                        for byte in outgoing.read():
                            plain.send(bytes((byte,)))
                        incoming.write(plain.recv(65536))

        self.assertEqual("TLSv1.3", await deferToThread(send_slowly))
        await protocol.lost

    async def test_http(self) -> None:
        """A client that speaks plain HTTP to a TLS port gets a complete response in plain HTTP."""
        raw = await self.send_plainly(b"GET /v2/ HTTP/1.1\r\nHost: mirror\r\n\r\n" + b"x" * 100_000)

        self.assertTrue(raw.startswith(b"HTTP/1.1 400 Bad Request\r\n"), raw)
        self.assertIn(b"this port speaks TLS", raw)

    async def test_garbage(self) -> None:
        """Garbage gets an alert at most, then the connection is closed; it is not logged as an error."""
        for garbage in (
            b"\0" * 100,
            b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000,
            b"SSH-2.0-x\r\n",
            b"\x80\x2e\1\3\1",
        ):
            with self.subTest(garbage=garbage[:10]):
                self.assertNotIn(b"HTTP", await self.send_plainly(garbage))
        self.assertEqual([], self.flushLoggedErrors())

    async def test_others_are_left_alone(self) -> None:
        """Broken handshakes do not disturb another connection."""
        dice = random.Random(7)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = CERTIFIED.trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        reading = ensureDeferred(self.read_all())
        for _ in range(60):
            broken = bytearray(hello)
            for _ in range(dice.randrange(1, 6)):
                broken[dice.randrange(len(broken))] = dice.randrange(256)
            talking = ensureDeferred(self.send_plainly(bytes(broken)))
            await self.send_file(0, 10_000)
            await talking
        self.transport.loseConnection()

        self.assertEqual(CONTENT[:10_000] * 60, await reading)

    async def send_plainly(self, sent: bytes) -> bytes:
        protocol = Waiter()
        number = await self.listen(protocol)

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", number), timeout=5) as plain:
                plain.sendall(sent)
                plain.shutdown(socket.SHUT_WR)
                with plain.makefile("rb") as file:
                    return file.read()

        raw = await deferToThread(talk)
        await protocol.lost
        return raw

    async def test_old_tls(self) -> None:
        """TLS 1.1 is rejected, and the client gets the reason."""
        context: Any = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(SSL.TLS1_1_VERSION)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        number = await self.listen(Waiter())

        def handshake() -> None:
            with socket.create_connection(("127.0.0.1", number), timeout=5) as plain:
                connect(plain, context)

        with self.assertRaisesRegex(SSL.Error, "version"):
            await deferToThread(handshake)

    async def test_no_common_protocol(self) -> None:
        """A client that offers h2 only gets an alert that no protocol is supported (RFC 7301)."""
        trust = CERTIFIED.trust()
        trust.set_alpn_protocols(["h2"])

        with self.assertRaisesRegex(ssl.SSLError, "(?i)application.protocol"):
            await self.handshake_as(trust)

    async def test_protocol(self) -> None:
        """HTTP/1.1 is selected if it is offered, and nothing if nothing is."""
        trust = CERTIFIED.trust()
        self.assertIsNone((await self.handshake_as(trust)).selected_alpn_protocol())
        trust.set_alpn_protocols(["h2", "http/1.1"])
        self.assertEqual("http/1.1", (await self.handshake_as(trust)).selected_alpn_protocol())

    async def handshake_as(self, trust: ssl.SSLContext) -> ssl.SSLSocket:
        number = await self.listen(Waiter())

        def handshake() -> ssl.SSLSocket:
            with socket.create_connection(("127.0.0.1", number), timeout=5) as plain:
                return trust.wrap_socket(plain, server_hostname="localhost")

        return await deferToThread(handshake)

    async def test_renegotiation(self) -> None:
        """A renegotiation is rejected, and the connection continues as it was."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        protocol = Waiter()
        number = await self.listen(protocol)

        def talk() -> None:
            with socket.create_connection(("127.0.0.1", number), timeout=5) as plain:
                tls = connect(plain, context)
                tls.send(b"before")
                tls.renegotiate()
                with contextlib.suppress(SSL.Error):
                    tls.do_handshake()

        await deferToThread(talk)
        await protocol.lost

        self.assertEqual(b"before", protocol.received)
        self.assertEqual([], self.flushLoggedErrors())
