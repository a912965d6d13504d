"""Ports open from endpoint descriptions; only TCP connections, plain or encrypted, send files."""

import socket
import ssl
import tempfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mirrord.http.file_server import MeteredUnixServer, SendfileServer
from mirrord.http.port import complete_description, open_port, remove_stale_socket
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import ConnectionLimits, MirrorSite
from mirrord.http.tls import TLSServer
from tests.fakes.certified import Certified
from tests.fakes.cold import ColdPages
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import head, read_answers


class PortCase(TestCase):
    def setUp(self) -> None:
        self.transports: list[Any] = []
        self.folder = Path(tempfile.mkdtemp())
        self.site = MirrorSite(
            reactor, CallbackResource(self.respond), limits=ConnectionLimits(closing_seconds=1)
        )

    def respond(self, request: MirrorRequest) -> None:
        self.transports.append(request.channel.transport)
        request.respond(Response.whole(200, b"x" * 100_000))

    async def open(self, description: str, certificates: Any = None) -> Any:
        pages: Any = ColdPages()
        port = await open_port(reactor, description, self.site, pages, certificates)
        self.addCleanup(self.site.drain)
        self.addCleanup(port.stopListening)
        return port

    async def ask(self, client: socket.socket) -> bytes:
        def talk() -> bytes:
            with client:
                client.sendall(head("/", "Connection: close"))
                with client.makefile("rb") as file:
                    return file.read()

        return await deferToThread(talk)


class PortTests(PortCase):
    async def test_tcp(self) -> None:
        """A connection to a tcp: port sends files, and the site knows its own address."""
        port = await self.open("tcp:0:interface=127.0.0.1")
        self.assertEqual(self.site.address, f"127.0.0.1:{port.getHost().port}")

        raw = await self.ask(socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5))

        self.assertEqual(200, read_answers(raw)[0].status)
        self.assertEqual([SendfileServer], [type(transport) for transport in self.transports])

    async def test_backlog(self) -> None:
        """The kernel queues 300 connections while we are busy; Twisted's 50 would not be enough."""
        port = await self.open("tcp:0:interface=127.0.0.1")

        clients = [socket.socket() for _ in range(300)]
        for client in clients:
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port.getHost().port))

        for client in clients:
            client.getpeername()

    async def test_unix(self) -> None:
        """A Unix socket is served, and its acknowledged bytes are counted."""
        path = self.folder / "socket"
        await self.open(f"unix:{path}")
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(str(path))

        raw = await self.ask(client)

        self.assertEqual(100_000, len(read_answers(raw)[0].body))
        self.assertEqual([MeteredUnixServer], [type(transport) for transport in self.transports])

    async def test_systemd(self) -> None:
        """A socket that was opened by another process is served like our own."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            port: Any = reactor.adoptStreamPort(  # type: ignore[attr-defined]
                listening.fileno(), socket.AF_INET, self.site
            )
            await port.stopListening()

    async def test_tls(self) -> None:
        """With certificates a port speaks TLS and HTTP/1.1, and its connections send files."""
        certified = Certified(self.folder)
        port = await self.open(
            "tcp:0:interface=127.0.0.1", certified.certificates(certified.issue("localhost"))
        )
        trust = certified.trust()
        trust.set_alpn_protocols(["h2", "http/1.1"])

        def handshake() -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)
            return trust.wrap_socket(plain, server_hostname="localhost")

        client = await deferToThread(handshake)
        self.assertEqual("http/1.1", client.selected_alpn_protocol())
        raw = await self.ask(client)

        self.assertEqual(200, read_answers(raw)[0].status)
        self.assertEqual([TLSServer], [type(transport) for transport in self.transports])

    async def test_tls_on_unix(self) -> None:
        """TLS on a Unix socket is an error, after which nothing listens there."""
        certified = Certified(self.folder)
        path = self.folder / "socket"

        opening = self.open(f"unix:{path}", certified.certificates(certified.issue("localhost")))

        with self.assertRaises(ValueError):
            await opening
        await deferLater(reactor, 0.01)
        with self.assertRaises(OSError):
            socket.socket(socket.AF_UNIX).connect(str(path))


class PlainTests(PortCase):
    """Misbehaving clients of a port."""

    async def connect(self) -> socket.socket:
        port = await self.open("tcp:0:interface=127.0.0.1")
        return socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)

    async def test_refused_push(self) -> None:
        """A client in the middle of a large push gets the early response, not a reset."""
        connected = await self.connect()

        def push() -> bytes:
            with connected as client:
                client.sendall(head("/v2/", "Content-Length: 1000000", method="PUT"))
                for _ in range(20):
                    client.sendall(bytes(50_000))
                    time.sleep(0.01)
                with client.makefile("rb") as file:
                    return file.read()

        raw = await deferToThread(push)

        (answer,) = read_answers(raw)
        self.assertEqual((200, "close"), (answer.status, answer.headers["connection"]))

    async def test_stalled(self) -> None:
        """A client that reads nothing is disconnected by the real clock, and released by the site."""
        self.site.limits = ConnectionLimits(stall_seconds=1, closing_seconds=1)
        with await self.connect() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(head("/") * 200)
            await ensureDeferred(self._gone())

    async def _gone(self) -> None:
        for _ in range(100):
            await deferLater(reactor, 0.1)
            if self.transports and not self.site.connections:
                return
        self.fail("still there after 10 s")


class SecureTests(PlainTests):
    """The same over TLS."""

    async def connect(self) -> socket.socket:
        certified = Certified(self.folder)
        certificates = certified.certificates(certified.issue("localhost"))
        port = await self.open("tcp:0:interface=127.0.0.1", certificates)
        plain = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)
        return await deferToThread(certified.trust().wrap_socket, plain, server_hostname="localhost")


class DescriptionTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """A Unix endpoint keeps its own arguments; by default it has no lock file, and the given mode."""
        for description, whole in {
            "unix:/run/m": "unix:/run/m:lockfile=0:mode=600",
            "unix:/run/m:mode=660": "unix:/run/m:mode=660:lockfile=0",
            "unix:address=/run/a\\:b:lockfile=1": "unix:address=/run/a\\:b:lockfile=1:mode=600",
            "tcp:5000": "tcp:5000",
        }.items():
            self.assertEqual(whole, complete_description(description, "600"))
        self.assertEqual("unix:/run/m:lockfile=0", complete_description("unix:/run/m"))


class StaleSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "a:b")
        self.description = f"unix:{folder.name}/a\\:b"

    def test_stale(self) -> None:
        """The socket of a daemon that was killed is removed."""
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(self.path))
        remove_stale_socket(self.description)
        self.assertFalse(self.path.exists())

    def test_in_use(self) -> None:
        """The socket of a running daemon is kept."""
        with socket.socket(socket.AF_UNIX) as running:
            running.bind(str(self.path))
            running.listen()
            remove_stale_socket(self.description)
            self.assertTrue(self.path.exists())

    def test_no_socket(self) -> None:
        """A path that is no socket, or does not exist, is left alone."""
        remove_stale_socket(self.description)
        self.path.write_text("mine")
        remove_stale_socket(self.description)
        self.assertEqual("mine", self.path.read_text())
        remove_stale_socket("tcp:5000")
