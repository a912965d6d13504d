"""Tests of mirrord/upstream/transport.py and body.py over real sockets."""

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from mirrord.oci.names import RepositoryName, Tag
from mirrord.upstream.client import UpstreamClient
from tests.fakes.faults import Cut, ExpiredUrl, Kind, NoRange
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry
from tests.unit.upstream.cases import HEAD, ClientTestCase
from tests.unit.upstream.sockets import REACTOR, Peer, SocketTestCase, http_response, until

APP = RepositoryName("library/app")
BLOB = Digest.of(b"")


class ReasonTests(ClientTestCase):
    """The reason of a connection that failed."""

    def test_tls(self) -> None:
        """Whatever error OpenSSL raises, the reason is that TLS failed, with details if there are any."""
        for error, reason in (
            (SSL.Error([("SSL routines", "", "certificate verify failed")]), "certificate verify failed"),
            (SSL.SysCallError(-1, "Unexpected EOF"), "no reason given"),
            (SSL.Error("odd"), "no reason given"),
            (SSL.Error(), "no reason given"),
        ):
            self.use(ResponseNeverReceived([Failure(error)]))
            message = str(self.failure(self.resolve(), UpstreamUnreachable))
            self.assertIn(f"TLS failed: {reason}", message)


class HostTests(ClientTestCase):
    """The hosts of upstreams."""

    def test_hosts(self) -> None:
        """An upstream may be at an IPv6 address, and at a name that is valid in DNS only."""
        for url in ("http://[fd00::1]:5000", "https://[::1]", "http://my_registry:5000"):
            self.use(HEAD, url=url)
            self.result(self.resolve())
            self.assertEqual([f"HEAD {url}/v2/library/app/manifests/latest"], self.agent.lines)


class NumberTests(SocketTestCase):
    async def test_long_numbers(self) -> None:
        """A number with thousands of digits is a failure of the upstream, and logs no traceback."""
        number = "9" * 4400
        heads = [
            f"HTTP/1.1 200 OK\r\nContent-Length: {number}\r\n\r\n",
            f"HTTP/1.1 {number} OK\r\nContent-Length: 0\r\n\r\n",
            f"HTTP/1.{number} 200 OK\r\nContent-Length: 0\r\n\r\n",
            f"HTTP/1.1 429 Slow\r\nRetry-After: {number}\r\nRateLimit-Limit: {number}\r\n"
            "Content-Length: 0\r\n\r\n",
            f"HTTP/1.1 307 There\r\nLocation: http://localhost:{number}/\r\nContent-Length: 0\r\n\r\n",
        ]
        for sent in heads:

            def answer(peer: Peer, _: str, sent: str = sent) -> None:
                peer.transport.write(sent.encode())

            _, port = self.listen(answer)
            client = self.client(f"http://127.0.0.1:{port}")
            with self.assertRaises(UpstreamError):
                await client.fetch_blob(APP, BLOB, budget_seconds=1)
        self.assertEqual([], self.flushLoggedErrors())


class FakeRegistryTests(SocketTestCase):
    """Against a registry like Docker Hub: three origins, a CDN that accepts no credentials."""

    def setUp(self) -> "Deferred[None]":  # type: ignore[override]
        self.registry = FakeRegistry(REACTOR)
        self.image = make_image([3_000_000])
        self.layer = self.image.layers[0]
        self.registry.put(self.image)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.registry.down()))
        return Deferred.fromCoroutine(self.registry.up())

    def connect(self) -> UpstreamClient:
        return self.client(self.registry.url, idle_timeout=2)

    async def fetch(self, client: UpstreamClient, **options: object) -> bytes:
        digest = Digest.parse(self.layer.digest)
        body = await client.fetch_blob(APP, digest, budget_seconds=5, **options)  # type: ignore[arg-type]
        chunks = []
        while chunk := await body.read():
            chunks.append(chunk)
        return b"".join(chunks)

    async def test_pull(self) -> None:
        """A pull needs one challenge and one token; the token is not sent to the CDN."""
        client = self.connect()
        manifest = await client.fetch_manifest(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertEqual(self.image.manifest.content, manifest.body)
        self.assertEqual(self.layer.content, await self.fetch(client))

        journal = self.registry.journal
        self.assertEqual(1, len(journal.requests(Kind.TOKEN)))
        self.assertEqual(1, len(journal.requests(Kind.CHALLENGE)))
        [content] = journal.requests(Kind.CONTENT)
        self.assertFalse(content.has_authorization)
        self.assertEqual("identity", content.header("Accept-Encoding"))
        self.assertEqual(99, client.status().quota.remaining)

    async def test_resume(self) -> None:
        """An interrupted download is resumed with the validator of its origin."""
        client = self.connect()
        self.registry.play(Cut(after=1_000_000))
        body = await client.fetch_blob(APP, Digest.parse(self.layer.digest), budget_seconds=5)
        start = b""
        with self.assertRaises(UpstreamUnreachable):
            while chunk := await body.read():
                start += chunk
        self.assertEqual(self.layer.content[: len(start)], start)
        rest = await self.fetch(client, offset=len(start), validator=body.validator)

        self.assertEqual(self.layer.content, start + rest)
        redirect, content = (self.registry.journal.requests(kind)[-1] for kind in (Kind.BLOB, Kind.CONTENT))
        self.assertEqual([None, True], [redirect.header("If-Range"), content.header("If-Range") is not None])

    async def test_no_range(self) -> None:
        """If the range is ignored the whole blob is read."""
        self.registry.play(NoRange())
        self.assertEqual(self.layer.content, await self.fetch(self.connect(), offset=5))

    async def test_expired_url(self) -> None:
        """A signed URL that has expired is requested again."""
        self.registry.play(ExpiredUrl())
        self.assertEqual(self.layer.content, await self.fetch(self.connect()))

    async def test_down(self) -> None:
        """A registry that is down is unreachable at once."""
        client = self.connect()
        await self.registry.down()
        with self.assertRaises(UpstreamUnreachable):
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)


class SocketTests(SocketTestCase):
    """Against a scripted server."""

    async def test_connections_are_kept(self) -> None:
        """Sequential requests share a connection, also across a redirect with a body."""

        def answer(peer: Peer, head: str) -> None:
            if head.startswith("GET /v2/"):
                peer.transport.write(http_response(b"there" * 100, "307 See", "Location: /blob\r\n"))
            else:
                peer.transport.write(http_response(b"blob"))

        server, port = self.listen(answer)
        client = self.client(f"http://127.0.0.1:{port}")
        for _ in range(3):
            body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
            self.assertEqual(b"blob", await body.read())
            self.assertEqual(b"", await body.read())

        self.assertEqual(1, len(server.peers))

    async def test_back_pressure(self) -> None:
        """A reader that does not read pauses the upstream; what it reads later is complete."""
        size = 64 << 20
        sent = 0

        class Source:
            def __init__(self, peer: Peer) -> None:
                self.peer = peer

            def resumeProducing(self) -> None:
                nonlocal sent
                piece = min(1 << 16, size - sent)
                sent += piece
                self.peer.transport.write(bytes(piece))
                if sent == size:
                    self.peer.transport.unregisterProducer()

            def stopProducing(self) -> None:
                pass

        def answer(peer: Peer, head: str) -> None:
            peer.transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            peer.transport.registerProducer(Source(peer), False)

        _, port = self.listen(answer)
        client = self.client(f"http://127.0.0.1:{port}", idle_timeout=0.2)
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        first = await body.read()
        await deferLater(REACTOR, 0.5)
        self.assertLess(sent, 16 << 20)

        total = len(first)
        while chunk := await body.read():
            total += len(chunk)
        self.assertEqual(size, total)

    async def test_abort(self) -> None:
        """An abort closes the connection, in the middle of a body and before its first byte."""

        def answer(peer: Peer, head: str) -> None:
            peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")

        server, port = self.listen(answer)
        client = self.client(f"http://127.0.0.1:{port}")
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual(b"abc", await body.read())
        body.abort()
        (await client.fetch_blob(APP, BLOB, budget_seconds=5)).abort()

        await until(lambda: len(server.peers) == 2 and all(peer.is_lost for peer in server.peers))

    async def test_stall(self) -> None:
        """A body that stalls is a timeout after its first bytes, and its connection is closed."""

        def answer(peer: Peer, head: str) -> None:
            peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")

        server, port = self.listen(answer)
        client = self.client(f"http://127.0.0.1:{port}", idle_timeout=0.1)
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual(b"abc", await body.read())
        with self.assertRaises(UpstreamTimeout):
            await body.read()

        await until(lambda: server.peers[0].is_lost)

    async def test_no_length(self) -> None:
        """A body without a length ends with its connection, or with its last chunk."""
        bodies = [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nblob",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nblob\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nblob",
        ]

        def answer(peer: Peer, head: str) -> None:
            peer.transport.write(bodies.pop(0))
            peer.transport.loseConnection()

        _, port = self.listen(answer)
        client = self.client(f"http://127.0.0.1:{port}")
        for _ in range(2):
            body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
            self.assertEqual((None, b"blob", b""), (body.size, await body.read(), await body.read()))
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual(b"blob", await body.read())
        with self.assertRaises(UpstreamUnreachable):
            await body.read()

    async def test_gzip_is_not_decoded(self) -> None:
        """Bytes with Content-Encoding gzip are not decoded: the digest is of what was sent."""

        def answer(peer: Peer, head: str) -> None:
            peer.transport.write(http_response(b"no gzip", headers="Content-Encoding: gzip\r\n"))

        _, port = self.listen(answer)
        body = await self.client(f"http://127.0.0.1:{port}").fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual((7, b"no gzip"), (body.size, await body.read()))

    async def test_not_http(self) -> None:
        """Whatever a hostile upstream sends in place of HTTP, it is an upstream error."""
        responses = [
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 307 See\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 307 See\r\nLocation: \xff\xfe://\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            b"",
        ]
        for sent in responses:

            def answer(peer: Peer, head: str, sent: bytes = sent) -> None:
                peer.transport.write(sent)
                peer.transport.loseConnection()

            _, port = self.listen(answer)
            client = self.client(f"http://127.0.0.1:{port}")
            with self.assertRaises((UpstreamUnreachable, UpstreamRefused)):
                await client.fetch_manifest(APP, Tag("latest"), budget_seconds=2, attempts=1)

    async def test_hang(self) -> None:
        """A request without a response, and its connection, end with the budget."""
        server, port = self.listen(lambda peer, head: None)
        client = self.client(f"http://127.0.0.1:{port}")
        with self.assertRaises(UpstreamTimeout):
            await client.resolve(APP, Tag("latest"), budget_seconds=0.2, attempts=3)

        await until(lambda: all(peer.is_lost for peer in server.peers))
