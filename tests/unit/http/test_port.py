"""Ports open from endpoint descriptions; only TCP connections, plain or encrypted, send files."""

import os
import socket
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import _SystemdParser
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import TestCase

from mirrord.http.file_server import MeteredUnixServer, SendfileServer
from mirrord.http.port import open_port
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

    async def test_unix_mode(self) -> None:
        """The endpoint of a Unix socket may set its mode; without one everyone may connect."""
        for number, (argument, mode) in enumerate({"": 0o666, ":mode=640": 0o640}.items()):
            path = self.folder / f"socket{number}"
            await self.open(f"unix:{path}{argument}")
            self.assertEqual(mode, path.stat().st_mode & 0o7777)

    async def test_unix_in_use(self) -> None:
        """An error names the cause where another process listens at the path."""
        path = self.folder / "socket"
        await self.open(f"unix:{path}")
        with self.assertRaises(CannotListenError) as caught:
            await self.open(f"unix:{path}")
        self.assertEqual("another process listens there", caught.exception.socketError.strerror)

    async def test_systemd_unix(self) -> None:
        """A Unix socket of systemd's keeps its mode while it is served, and its file afterwards."""
        path = self.folder / "socket"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen()
            self.patch(_SystemdParser, "_sddaemon", ListenFDs([os.dup(listening.fileno())], ["commands"]))
            port = await self.open("systemd:domain=UNIX:name=commands")
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(5)
            client.connect(str(path))
            self.assertEqual(200, read_answers(await self.ask(client))[0].status)
            self.assertEqual(0o600, path.stat().st_mode & 0o7777)
            await port.stopListening()
        self.assertTrue(path.is_socket())

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
