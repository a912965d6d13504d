"""Tests of mirrord/api/body_streams.py, over sockets."""

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
from tests.fakes.fake_repositories import FakeBlob, FakeRepositories
from tests.fakes.repositories import HUB
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import head, read_answers

SIZE = 3_000_001
CONTENT = os.urandom(SIZE)


class SendingMetrics(Metrics):
    """Metrics that also keep the size of every send."""

    def __init__(self) -> None:
        super().__init__([HUB])
        self.sizes: list[int] = []

    def sent(self, size: int) -> None:
        self.sizes.append(size)
        super().sent(size)


class SocketCase(TestCase):
    """A mirror on a port, and clients that are sockets in threads."""

    def setUp(self) -> None:
        self.repositories = FakeRepositories()
        self.metrics = SendingMetrics()
        self.pages = ColdPages(warm_bytes=SIZE)
        self.transports: list[Any] = []
        root = self.repositories.root(metrics=self.metrics, pages=cast("PageCache", self.pages))

        def respond(request: MirrorRequest) -> None:
            self.transports.append(request.channel.transport)
            request.render(getChildForRequest(root, request))

        limits = ConnectionLimits(stall_seconds=1, closing_seconds=1)
        self.site = MirrorSite(reactor, CallbackResource(respond), limits=limits)
        self.add(CONTENT)

    def add(self, content: bytes, readable: int | None = None) -> FakeBlob:
        digest, blob = self.repositories.add_blob(content, readable)
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

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(1000):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail("it did not happen within 10 s")

    @property
    def sent(self) -> float | None:
        return self.metrics.registry.get_sample_value("mirrord_sent_bytes_total")


def send(client: socket.socket, request: bytes) -> Deferred[bytes]:
    """Send a request, and read until the mirror closes the connection."""

    def send_and_read() -> bytes:
        client.sendall(request)
        with client, client.makefile("rb") as file:
            return file.read()

    return deferToThread(send_and_read)


class SendfileTests(SocketCase):
    async def test_pipelined(self) -> None:
        """After a blob by sendfile, pipelined ranges and small responses follow in order."""
        client = await self.connect(await self.open())

        raw = await send(
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

    async def test_many_small_ranges(self) -> None:
        """A thousand small ranges are a few writes, as the turns of the reactor that each takes add up."""
        client = await self.connect(await self.open())
        firsts = range(0, SIZE, SIZE // 1023)
        ranges = ",".join(f"{first}-{first + 9}" for first in firsts)

        raw = await send(client, head(self.path, f"Range: bytes={ranges}", "Connection: close"))

        (got,) = read_answers(raw)
        parts = [part.partition(b"\r\n\r\n")[2] for part in got.body.split(b"\r\n--")][:-1]
        self.assertEqual([CONTENT[first : first + 10] for first in firsts], parts)
        self.assertLessEqual(len(self.metrics.sizes), 4)

    async def test_growing(self) -> None:
        """A growing file is sent as it grows."""
        blob = self.add(CONTENT, readable=0)
        client = await self.connect(await self.open())
        reading = send(client, head(self.path, "Connection: close"))
        for readable in (1, 1_000_000, 1_000_001, SIZE - 1):
            await self.until(lambda: blob.is_awaited)
            blob.grow(readable)
        await self.until(lambda: blob.is_awaited)
        blob.grow(SIZE)

        self.assertEqual(CONTENT, read_answers(await reading)[0].body)
        self.assertTrue(blob.is_closed)

    async def test_failure(self) -> None:
        """A failed download ends the connection by a FIN, after the bytes that were written."""
        blob = self.add(CONTENT, readable=2_000_000)
        client = await self.connect(await self.open())
        reading = send(client, head(self.path))
        await self.until(lambda: blob.is_awaited)
        blob.fail(RuntimeError("broken"))

        raw = await reading

        self.assertTrue(raw.endswith(CONTENT[1_999_000:2_000_000]))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    async def test_truncated(self) -> None:
        """A file that is shorter than its blob ends the connection, and is not padded."""
        self.repositories.blobs[next(iter(self.repositories.blobs))].truncate(1_000_000)
        client = await self.connect(await self.open())

        raw = await send(client, head(self.path))

        self.assertTrue(raw.endswith(CONTENT[999_000:1_000_000]))
        self.assertEqual(1, len(self.flushLoggedErrors(EOFError)))

    async def test_disconnect(self) -> None:
        """If the client disconnects in the middle, the blob is closed and nothing is logged."""
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

    async def test_aborted(self) -> None:
        """Aborting the connections ends a blob by a FIN, after the bytes that were sent."""
        blob = self.add(CONTENT, readable=1_000_000)
        client = await self.connect(await self.open())
        reading = send(client, head(self.path))
        await self.until(lambda: blob.is_awaited)

        self.site.abort_connections()

        self.assertTrue((await reading).endswith(CONTENT[999_000:1_000_000]))
        self.assertTrue(blob.is_closed)
        self.assertEqual([], self.flushLoggedErrors())

    async def test_half_closed(self) -> None:
        """A client that half-closes its connection after the request gets the whole blob."""
        client = await self.connect(await self.open())

        def half_close() -> bytes:
            client.sendall(head(self.path))
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as file:
                return file.read()

        self.assertEqual(CONTENT, read_answers(await deferToThread(half_close))[0].body)

    async def test_stalled(self) -> None:
        """A client that reads nothing is disconnected; one that reads slowly is not."""
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
        """While one response waits for the disk, other requests are served."""
        self.pages.warm_bytes = 0
        port = await self.open()
        cold, warm = await self.connect(port), await self.connect(port)
        reading = send(cold, head(self.path, "Connection: close"))
        await self.until(lambda: self.pages.reads)
        self.assertIn(b"200 OK", await send(warm, head("/v2/", "Connection: close")))

        self.pages.warm_bytes = SIZE
        self.pages.arrive()

        self.assertEqual(CONTENT, read_answers(await reading)[0].body)


class OtherTransportTests(SocketCase):
    async def test_unix(self) -> None:
        """Blobs are sent over a Unix socket, for pipelined requests too."""
        path = Path(tempfile.mkdtemp()) / "socket"
        await self.open(f"unix:{path}")
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(str(path))

        raw = await send(client, head(self.path) + head(self.path, "Range: bytes=7-", "Connection: close"))

        self.assertEqual([CONTENT, CONTENT[7:]], [got.body for got in read_answers(raw)])
        self.assertEqual(2 * SIZE - 7, self.sent)

    async def test_tls(self) -> None:
        """Blobs are encrypted over TLS, and not sent by sendfile."""
        port, trust = await self.open_tls()

        def connect() -> ssl.SSLSocket:
            plain = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)
            return trust.wrap_socket(plain, server_hostname="localhost")

        client = await deferToThread(connect)
        raw = await send(client, head(self.path) + head(self.path, "Range: bytes=7-", "Connection: close"))

        self.assertEqual([CONTENT, CONTENT[7:]], [got.body for got in read_answers(raw)])
        self.assertEqual([TLSServer] * 2, [type(transport) for transport in self.transports])

    async def test_cold(self) -> None:
        """A chunk that is not in the page cache is read by a thread, and then sent."""
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
        return read_answers(await send(client, head(self.path, "Connection: close")))[0].body

    async def open_tls(self) -> tuple[Any, ssl.SSLContext]:
        certified = Certified(Path(tempfile.mkdtemp()))
        return await self.open(
            certificates=certified.certificates(certified.issue("localhost"))
        ), certified.trust()
