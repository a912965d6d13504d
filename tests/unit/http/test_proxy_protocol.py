"""PROXY headers are read to their last byte, and accepted from trusted proxies only."""

import socket
import struct
import tempfile
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mirrord.http.forwarded import TrustedProxies
from mirrord.http.port import open_port
from mirrord.http.proxy_protocol import MAX_HEADER_BYTES, InvalidProxyHeader, client_address, header_size
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import ConnectionLimits, MirrorSite
from tests.fakes.certified import Certified
from tests.fakes.cold import ColdPages
from tests.fakes.logged import Logged
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import head, read_answers

BEGIN = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 5000\r\n"


def v2(family: int = 0x11, command: int = 0x21, body: bytes | None = None, more: bytes = b"") -> bytes:
    if body is None:
        body = socket.inet_aton("203.0.113.9") + socket.inet_aton("10.0.0.1") + struct.pack(">HH", 4711, 5000)
    return BEGIN + struct.pack(">BBH", command, family, len(body + more)) + body + more


V6 = ip_address("2001:db8::9").packed + ip_address("::1").packed + struct.pack(">HH", 4711, 5000)


class HeaderTests(SynchronousTestCase):
    def test_size(self) -> None:
        """A header's size is known when enough of it has arrived, and excludes what follows."""
        for header in (
            V1,
            b"PROXY UNKNOWN\r\n",
            v2(),
            v2(0x21, body=V6),
            v2(command=0x20, body=b""),
            v2(more=b"x" * 900),
        ):
            known = False
            for end in range(len(header) + 1):
                size = header_size(header[:end])
                self.assertIn(size, (None, len(header)))
                known = size is not None
            self.assertTrue(known)
            self.assertEqual(len(header), header_size(header + b"GET / HTTP/1.1\r\n\r\n"))

    def test_client(self) -> None:
        """The client's address and port are parsed, of both versions and both families."""
        for header, host in (
            (V1, "203.0.113.9"),
            (b"PROXY TCP6 2001:db8::9 ::1 4711 5000\r\n", "2001:db8::9"),
            (v2(), "203.0.113.9"),
            (v2(more=b"\x04\0\1x"), "203.0.113.9"),
            (v2(0x21, body=V6), "2001:db8::9"),
        ):
            with self.subTest(header=header):
                client: Any = client_address(header)
                self.assertEqual((host, 4711), (client.host, client.port))

    def test_nobody(self) -> None:
        """A proxy's own request, and a client without an IP address, name no client."""
        for header in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
            v2(command=0x20),
            v2(command=0x20, body=b""),
            v2(0x00, body=b""),
            v2(0x31, body=b"/a" * 108),
            v2(0x12),
        ):
            with self.subTest(header=header):
                self.assertIsNone(client_address(header))

    def test_unreadable(self) -> None:
        """A malformed header is rejected."""
        for header in (
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n",
            b"PROXY TCP4 2001:db8::9 ::1 4711 5000\r\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 5000\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 x 5000\r\n",
            b"PROXY UDP4 203.0.113.9 10.0.0.1 4711 5000\r\n",
            b"PROXY \r\n",
            b"PROXY \xff\r\n",
            v2(command=0x11),
            v2(command=0x22),
            v2(body=b"short"),
        ):
            with self.subTest(header=header), self.assertRaises(InvalidProxyHeader):
                client_address(header)

    def test_none(self) -> None:
        """Bytes that begin no header, or one without an end, are rejected as early as possible."""
        for beginning in (b"G", b"PROXI", b"\x16\3\1", BEGIN[:11] + b"x", b"PROXY " + b"x" * 101):
            with self.subTest(beginning=beginning), self.assertRaises(InvalidProxyHeader):
                header_size(beginning)
        with self.assertRaises(InvalidProxyHeader):
            header_size(v2(more=b"x" * MAX_HEADER_BYTES))

    @given(st.binary(max_size=300), st.sampled_from((b"", b"PROXY ", BEGIN)))
    def test_anything(self, noise: bytes, begin: bytes) -> None:
        """Random bytes are a header or an InvalidProxyHeader, and nothing else."""
        try:
            size = header_size(begin + noise)
            if size is not None:
                client_address((begin + noise)[:size])
        except InvalidProxyHeader:
            return


class ProxiedTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.met: list[tuple[str, str]] = []
        self.trust(("127.0.0.0/8", "10.0.0.0/8"))

    def trust(self, networks: tuple[str, ...], limits: ConnectionLimits | None = None) -> None:
        proxies = TrustedProxies(tuple(ip_network(network) for network in networks))
        self.site = MirrorSite(
            reactor, CallbackResource(self.respond), limits=limits, proxies=proxies, is_proxied=True
        )

    def respond(self, request: MirrorRequest) -> None:
        self.met.append((request.client_address, request.scheme))
        request.respond(Response.whole(200, b"hello"))

    async def open(self, description: str = "tcp:0:interface=127.0.0.1", certificates: Any = None) -> Any:
        pages: Any = ColdPages()
        port = await open_port(reactor, description, self.site, pages, certificates)
        self.addCleanup(self.site.drain)
        self.addCleanup(maybeDeferred, port.stopListening)
        return port

    async def ask(self, *pieces: bytes, port: Any = None) -> bytes:
        """Send these pieces one by one, and read to the end of the connection."""
        number = (port or await self.open()).getHost().port

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", number), timeout=5) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    client.sendall(piece)
                with client.makefile("rb") as file:
                    return file.read()

        return await deferToThread(talk)

    async def test_together(self) -> None:
        """A header that arrives with the first request names its client, in both versions."""
        for header in (V1, v2(), v2(more=b"x" * 1000)):
            self.met.clear()
            raw = await self.ask(header + head("/", "Connection: close"))

            self.assertEqual([200], [got.status for got in read_answers(raw)])
            self.assertEqual([("203.0.113.9", "http")], self.met)

    async def test_byte_by_byte(self) -> None:
        """A header may arrive byte by byte."""
        for header in (V1, v2()):
            self.met.clear()
            await self.ask(*(bytes((byte,)) for byte in header), head("/", "Connection: close"))

            self.assertEqual([("203.0.113.9", "http")], self.met)

    async def test_nobody(self) -> None:
        """If a header names no client, the peer is the client; LOCAL is for health checks."""
        await self.ask(v2(command=0x20, body=b"") + head("/", "Connection: close"))

        self.assertEqual([("127.0.0.1", "http")], self.met)

    async def test_forwarded(self) -> None:
        """If the header's client is itself a trusted proxy, its X-Forwarded-For is used."""
        header = V1.replace(b"203.0.113.9", b"10.9.9.9")
        forwarded = head(
            "/", "Connection: close", "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https"
        )
        await self.ask(header + forwarded)

        self.assertEqual([("198.51.100.7", "https")], self.met)

    async def test_no_header(self) -> None:
        """A connection without a header is closed without a response, and its peer is logged."""
        logged = Logged.during(self, "mirrord.http.proxy_protocol")
        self.assertEqual(b"", await self.ask(head("/")))

        self.assertEqual([], self.met)
        self.assertEqual(["connection from 127.0.0.1 rejected: no PROXY header"], logged.messages)

    async def test_stranger(self) -> None:
        """A connection from an untrusted address is closed before a byte of it is read."""
        self.trust(("10.0.0.0/8",))
        with self.assertRaises(ConnectionError):
            if await self.ask(V1 + head("/")) == b"":
                raise ConnectionError

        self.assertEqual([], self.met)
        self.assertEqual(0, self.site.connections)

    async def test_crowd(self) -> None:
        """Connections count against the client that the header names, not against the proxy."""
        self.trust(("127.0.0.0/8",), ConnectionLimits(connections_per_peer=1))
        port = await self.open()
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5) as first:
            first.sendall(V1 + head("/"))
            self.assertIn(b"200 OK", await deferToThread(first.recv, 1000))
            with self.assertRaises(ConnectionError):
                await self.ask(V1 + head("/"), port=port)
            other = V1.replace(b"113.9", b"113.8")
            self.assertIn(b"200 OK", await self.ask(other + head("/", "Connection: close"), port=port))

    async def test_before_tls(self) -> None:
        """The header comes before the TLS handshake, and may arrive with it."""
        certified = Certified(self.folder)
        port = await self.open(certificates=certified.certificates(certified.issue("localhost")))
        trust = certified.trust()

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                plain.sendall(v2())
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                with trust.wrap_socket(plain, server_hostname="localhost") as client:
                    client.sendall(head("/", "Connection: close"))
                    with client.makefile("rb") as file:
                        return file.read()

        self.assertIn(b"200 OK", await deferToThread(talk))
        self.assertEqual([("203.0.113.9", "https")], self.met)

    async def test_unix(self) -> None:
        """On a Unix socket every peer may name its client."""
        path = self.folder / "socket"
        await self.open(f"unix:{path}")

        def talk() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(path))
                client.sendall(v2() + head("/", "Connection: close"))
                with client.makefile("rb") as file:
                    return file.read()

        self.assertIn(b"200 OK", await deferToThread(talk))
        self.assertEqual([("203.0.113.9", "http")], self.met)
