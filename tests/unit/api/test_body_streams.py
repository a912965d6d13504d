"""Bodies over real sockets: by sendfile on plain TCP, by chunks elsewhere; connections go on after them."""

import os
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import getChildForRequest

from mirrord.http.file_server import SendfileServer
from mirrord.http.page_cache import PageCache
from mirrord.http.port import open_port
from mirrord.http.request import MirrorRequest
from mirrord.http.site import ConnectionLimits, MirrorSite
from mirrord.http.tls import TLSServer
from mirrord.observe.metrics import Metrics
from tests.fakes.certified import Certified
from tests.fakes.cold import ColdPages
from tests.fakes.pulling import HUB, FakeBlob, FakePulling
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import head, read_answers

SIZE = 3_000_001
CONTENT = os.urandom(SIZE)


class SocketCase(TestCase):
    """A mirror on a port of its own, and clients that are plain sockets in threads."""

    def setUp(self) -> None:
        self.pulling = FakePulling()
        self.metrics = Metrics([HUB])
        self.pages = ColdPages(warm_bytes=SIZE)
        self.transports: list[Any] = []
        root = self.pulling.root(metrics=self.metrics, pages=cast("PageCache", self.pages))

        def respond(request: MirrorRequest) -> None:
            self.transports.append(request.channel.transport)
            request.render(getChildForRequest(root, request))

        limits = ConnectionLimits(stall_seconds=1, closing_seconds=1)
        self.site = MirrorSite(reactor, CallbackResource(respond), limits=limits)
        self.add(CONTENT)

    def add(self, content: bytes, readable: int | None = None) -> FakeBlob:
        digest, blob = self.pulling.add_blob(content, readable)
        self.path = f"/v2/library/x/blobs/{digest}"
        return blob

    async def open(self, description: str = "tcp:0:interface=127.0.0.1", certificates: Any = None) -> Any:
        port = await open_port(reactor, description, self.site, cast("PageCache", self.pages), certificates)
        self.addCleanup(self.site.drain)
        self.addCleanup(port.stopListening)
        return port

    async def connect(self, port: Any) -> socket.socket:
        client = await deferToThread(socket.create_connection, ("127.0.0.1", port.getHost().port), 5)
        self.addCleanup(client.close)
        return client

    async def until(self, is_so: Callable[[], object]) -> None:
        for _ in range(1000):
            if is_so():
                return
            await deferLater(reactor, 0.01)
        self.fail("it did not come so within 10 s")

    @property
    def sent(self) -> float | None:
        return self.metrics.registry.get_sample_value("mirrord_sent_bytes_total")


def talk(client: socket.socket, request: bytes) -> Deferred[bytes]:
    """Send a request, and read until the mirror closes."""

    def send_and_read() -> bytes:
        client.sendall(request)
        with client, client.makefile("rb") as file:
            return file.read()

    return deferToThread(send_and_read)


class PlainTests(SocketCase):
    async def test_pipelined(self) -> None:
        """After a whole blob by sendfile the connection goes on: ranges and small answers follow in order."""
        client = await self.connect(await self.open())

        raw = await talk(
            client,
            head(self.path)
            + head("/v2/")
            + head(self.path, "Range: bytes=5-9,100-199")
            + head(self.path, "Range: bytes=-1000000")
            + head(self.path, method="HEAD", version="HTTP/1.0"),
        )

        whole, ping, several, tail = read_answers(raw[: raw.rindex(b"HTTP/1.0 200")])
        self.assertEqual(CONTENT, whole.body)
        self.assertEqual(b"{}", ping.body)
        self.assertIn(b"\r\n\r\n" + CONTENT[100:200] + b"\r\n--", several.body)
        self.assertEqual(CONTENT[-1_000_000:], tail.body)
        self.assertEqual([SendfileServer] * 5, [type(transport) for transport in self.transports])
        self.assertGreater(self.sent or 0, SIZE + 1_000_000)

    async def test_growing(self) -> None:
        """A growing file is followed to its end, and the last byte waits for the proof."""
        blob = self.add(CONTENT, readable=0)
        client = await self.connect(await self.open())
        reading = talk(client, head(self.path, "Connection: close"))
        for readable in (1, 1_000_000, 1_000_001, SIZE - 1):
            await self.until(lambda: blob._waiting)
            blob.grow(readable)
        await self.until(lambda: blob._waiting)
        blob.grow(SIZE)

        self.assertEqual(CONTENT, read_answers(await reading)[0].body)
        self.assertTrue(blob.is_closed)

    async def test_fails(self) -> None:
        """A download that fails ends the connection by a FIN, after all that was sent before."""
        blob = self.add(CONTENT, readable=2_000_000)
        client = await self.connect(await self.open())
        reading = talk(client, head(self.path))
        await self.until(lambda: blob._waiting)
        blob.fail(RuntimeError("broken"))

        raw = await reading

        self.assertTrue(raw.endswith(CONTENT[1_999_000:2_000_000]))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    async def test_truncated(self) -> None:
        """A file that is shorter than its blob ends the connection, and is never padded."""
        self.pulling.blobs[next(iter(self.pulling.blobs))].truncate(1_000_000)
        client = await self.connect(await self.open())

        raw = await talk(client, head(self.path))

        self.assertTrue(raw.endswith(CONTENT[999_000:1_000_000]))
        self.assertEqual(1, len(self.flushLoggedErrors(EOFError)))

    async def test_client_leaves(self) -> None:
        """A client that leaves in the middle costs nothing: the blob is closed, nothing is logged."""
        blob = self.add(bytes(30_000_000))
        self.pages.warm_bytes = 30_000_000
        client = await self.connect(await self.open())
        client.sendall(head(self.path))
        await deferToThread(client.recv, 1000)
        client.close()

        await self.until(lambda: blob.is_closed)
        await self.until(lambda: not self.site.connections)
        self.assertEqual([], self.flushLoggedErrors())
        self.assertEqual(self.transports[0].file_bytes, self.sent)
        self.assertTrue(1000 < (self.sent or 0) < 30_000_000, self.sent)

    async def test_broken_off(self) -> None:
        """A drain that ends in the midst of a blob gives its client all that was sent, and then a FIN."""
        blob = self.add(CONTENT, readable=1_000_000)
        client = await self.connect(await self.open())
        reading = talk(client, head(self.path))
        await self.until(lambda: blob._waiting)

        self.site.abort_connections()

        self.assertTrue((await reading).endswith(CONTENT[999_000:1_000_000]))
        self.assertTrue(blob.is_closed)
        self.assertEqual([], self.flushLoggedErrors())

    async def test_half_closed(self) -> None:
        """A client that closes its side after asking is given the whole blob."""
        client = await self.connect(await self.open())

        def half_close() -> bytes:
            client.sendall(head(self.path))
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as file:
                return file.read()

        self.assertEqual(CONTENT, read_answers(await deferToThread(half_close))[0].body)

    async def test_stalled(self) -> None:
        """A client that reads nothing of a blob is dropped; one that reads slowly lives on."""
        blob = self.add(bytes(30_000_000))
        self.pages.warm_bytes = 30_000_000
        client = await self.connect(await self.open())
        client.sendall(head(self.path))
        file = client.makefile("rb")
        self.addCleanup(file.close)

        for _ in range(8):
            await deferLater(reactor, 0.4)
            self.assertEqual(300_000, len(await deferToThread(file.read, 300_000)))
        self.assertFalse(blob.is_closed)

        await self.until(lambda: blob.is_closed)
        await self.until(lambda: not self.site.connections)

    async def test_cold(self) -> None:
        """While one client waits for the disk, another is served."""
        self.pages.warm_bytes = 0
        port = await self.open()
        cold, warm = await self.connect(port), await self.connect(port)
        reading = talk(cold, head(self.path, "Connection: close"))
        await self.until(lambda: self.pages.reads)
        self.assertIn(b"200 OK", await talk(warm, head("/v2/", "Connection: close")))

        self.pages.warm_bytes = SIZE
        self.pages.arrive()

        self.assertEqual(CONTENT, read_answers(await reading)[0].body)


class ElsewhereTests(SocketCase):
    async def test_unix(self) -> None:
        """Over a Unix socket blobs are read and written, and requests pipelined."""
        path = Path(tempfile.mkdtemp()) / "socket"
        await self.open(f"unix:{path}")
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(str(path))

        raw = await talk(client, head(self.path) + head(self.path, "Range: bytes=7-", "Connection: close"))

        self.assertEqual([CONTENT, CONTENT[7:]], [got.body for got in read_answers(raw)])
        self.assertEqual(2 * SIZE - 7, self.sent)

    async def test_tls(self) -> None:
        """Over TLS blobs are encrypted: the file never goes to the socket as it is."""
        port, trust = await self.open_tls()

        def greet() -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)
            return trust.wrap_socket(plain, server_hostname="localhost")

        client = await deferToThread(greet)
        raw = await talk(client, head(self.path) + head(self.path, "Range: bytes=7-", "Connection: close"))

        self.assertEqual([CONTENT, CONTENT[7:]], [got.body for got in read_answers(raw)])
        self.assertEqual([TLSServer] * 2, [type(transport) for transport in self.transports])

    async def test_cold(self) -> None:
        """A chunk that is not in memory is brought by a thread, and then sent."""
        self.pages.warm_bytes = 500_000
        port, trust = await self.open_tls()
        plain = await self.connect(port)
        client = await deferToThread(trust.wrap_socket, plain, server_hostname="localhost")
        reading = ensureDeferred(self._read(client))
        await self.until(lambda: self.pages.reads)
        self.pages.warm_bytes = SIZE
        self.pages.arrive()

        self.assertEqual(CONTENT, await reading)

    async def _read(self, client: socket.socket) -> bytes:
        return read_answers(await talk(client, head(self.path, "Connection: close")))[0].body

    async def open_tls(self) -> tuple[Any, ssl.SSLContext]:
        certified = Certified(Path(tempfile.mkdtemp()))
        return await self.open(
            certificates=certified.certificates(certified.issue("localhost"))
        ), certified.trust()
