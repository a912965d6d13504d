"""Any resource of twisted.web works in a listener's tree, and its errors are never HTML of ours."""

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.static import File

from mirrord.http.page_cache import PageCache
from mirrord.http.port import open_port
from mirrord.http.request import MirrorRequest
from mirrord.http.resource import AsyncResource, JSONResource, UnavailableResource
from mirrord.http.response import Response
from mirrord.http.site import ConnectionLimits, MirrorSite
from mirrord.observe.metrics import Metrics
from tests.fakes.certified import Certified
from tests.fakes.cold import ColdPages
from tests.fakes.fake_repositories import FakeRepositories
from tests.fakes.repositories import HUB
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, Got, head, read_answers

SIZE = 8_000_001
CONTENT = os.urandom(SIZE)


class WatchedFile(File):
    """A file that notes which of its descriptors are open."""

    opened: list[Any]

    def openForReading(self) -> Any:
        file = super().openForReading()
        self.opened.append(file)
        return file


class StaticFileTests(TestCase):
    """A folder below `/files` of a pull listener, fetched over TCP."""

    is_tls = False

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / "page.html").write_text("<p>page</p>")
        (self.folder / "large").write_bytes(CONTENT)
        (self.folder / "sub").mkdir()
        (self.folder / "sub" / "index.html").write_text("<p>index</p>")
        repositories, pages = FakeRepositories(), cast("PageCache", ColdPages())
        root = repositories.root(metrics=Metrics([HUB]), pages=pages)
        self.opened = WatchedFile.opened = []
        root.putChild(b"files", WatchedFile(str(self.folder)))
        limits = ConnectionLimits(stall_seconds=1, closing_seconds=1)
        self.site = MirrorSite(reactor, root, limits=limits)

    async def connect(self) -> socket.socket:
        certificates, certified = None, Certified(self.folder)
        if self.is_tls:
            certificates = certified.certificates(certified.issue("localhost"))
        port: Any = await open_port(
            reactor, "tcp:0:interface=127.0.0.1", self.site, cast("PageCache", ColdPages()), certificates
        )
        self.addCleanup(self.site.drain)
        self.addCleanup(port.stopListening)

        def connect() -> socket.socket:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            client.settimeout(10)
            client.connect(("127.0.0.1", port.getHost().port))
            if not self.is_tls:
                return client
            return certified.trust().wrap_socket(client, server_hostname="localhost")

        client = await deferToThread(connect)
        self.addCleanup(client.close)
        return client

    async def fetch(self, *requests: bytes, method: str = "GET") -> list[Got]:
        """Send requests in one piece, and read the responses to the end of the connection."""
        client = await self.connect()

        def talk() -> bytes:
            client.sendall(b"".join(requests))
            with client, client.makefile("rb") as file:
                return file.read()

        return read_answers(await deferToThread(talk), method)

    async def get(self, path: str, *headers: str, method: str = "GET") -> Got:
        (got,) = await self.fetch(head(path, "Connection: close", *headers, method=method), method=method)
        return got

    async def until(self, is_so: Callable[[], object]) -> None:
        for _ in range(1000):
            if is_so():
                return
            await deferLater(reactor, 0.01)
        self.fail("the condition did not become true within 10 s")

    async def begin(self) -> socket.socket:
        """Request the large file, and read its beginning only."""
        client = await self.connect()
        await deferToThread(client.sendall, head("/files/large"))
        self.assertIn(b" 200 ", await deferToThread(client.recv, 1000))
        return client

    async def test_pipelined(self) -> None:
        """Files and the API are served on one connection, each response whole and in order."""
        page, large, ping = await self.fetch(
            head("/files/page.html"), head("/files/large"), head("/v2/", "Connection: close")
        )

        self.assertEqual((200, b"<p>page</p>"), (page.status, page.body))
        self.assertEqual("text/html", page.headers["content-type"])
        self.assertEqual("bytes", page.headers["accept-ranges"])
        self.assertIn("date", page.headers)
        self.assertNotIn("connection", page.headers)
        self.assertEqual((str(SIZE), CONTENT), (large.headers["content-length"], large.body))
        self.assertEqual((200, b"{}", "close"), (ping.status, ping.body, ping.headers["connection"]))
        self.assertTrue(all(file.closed for file in self.opened))

    async def test_head(self) -> None:
        """HEAD has the length and no body."""
        got = await self.get("/files/large", method="HEAD")
        self.assertEqual((200, str(SIZE), b""), (got.status, got.headers["content-length"], got.body))

    async def test_ranges(self) -> None:
        """One range, several ranges, and a range that the file does not have."""
        one = await self.get("/files/large", "Range: bytes=5-1000004")
        self.assertEqual((206, CONTENT[5:1_000_005]), (one.status, one.body))
        self.assertEqual(f"bytes 5-1000004/{SIZE}", one.headers["content-range"])
        several = await self.get("/files/large", "Range: bytes=1-2,-3")
        self.assertEqual(206, several.status)
        self.assertIn(b"\r\n\r\n" + CONTENT[1:3] + b"\r\n--", several.body)
        self.assertIn(b"\r\n\r\n" + CONTENT[-3:] + b"\r\n--", several.body)
        self.assertEqual(416, (await self.get("/files/page.html", "Range: bytes=100-")).status)

    async def test_not_modified(self) -> None:
        """A file that has not changed since is 304, without a body or a length."""
        changed_at = (self.folder / "page.html").stat().st_mtime
        got = await self.get(
            "/files/page.html", f"If-Modified-Since: {formatdate(changed_at + 1, usegmt=True)}"
        )
        self.assertEqual((304, b""), (got.status, got.body))
        self.assertNotIn("content-length", got.headers)
        self.assertNotIn("transfer-encoding", got.headers)
        got = await self.get(
            "/files/page.html", f"If-Modified-Since: {formatdate(changed_at - 9, usegmt=True)}"
        )
        self.assertEqual((200, b"<p>page</p>"), (got.status, got.body))

    async def test_missing(self) -> None:
        """A path that does not exist in the folder, or leads out of it, is 404."""
        for path in ("/files/absent", "/files/page.html/x", "/files/..%2f..%2fetc/passwd", "/files/%ff"):
            self.assertEqual(404, (await self.get(path)).status, path)
        self.flushLoggedErrors(UnicodeDecodeError)

    async def test_folder(self) -> None:
        """A folder redirects to its own URL, where its index is, and a folder without one is listed."""
        got = await self.get("/files/sub?a=b")
        self.assertEqual((302, "/files/sub/?a=b"), (got.status, got.headers["location"]))
        self.assertEqual(b"<p>index</p>", (await self.get("/files/sub/")).body)
        self.assertIn(b'<a href="page.html">', (await self.get("/files/")).body)

    async def test_method(self) -> None:
        """A method that a file does not have is 405 in JSON."""
        got = await self.get("/files/page.html", method="DELETE")
        self.assertEqual((405, "GET, HEAD"), (got.status, got.headers["allow"]))
        self.assertEqual("UNSUPPORTED", json.loads(got.body)["errors"][0]["code"])

    async def test_client_disconnects(self) -> None:
        """When the client disconnects in the middle of a file, the file is closed."""
        client = await self.begin()
        self.assertFalse(self.opened[0].closed)
        client.close()
        await self.until(lambda: self.opened[0].closed and not self.site.connections)

    async def test_client_stalls(self) -> None:
        """A client that stops reading is disconnected after the stall timeout, and the file is closed."""
        await self.begin()
        await self.until(lambda: self.opened[0].closed and not self.site.connections)

    async def test_aborted(self) -> None:
        """When connections are aborted, the file is closed and the client sees the response cut short."""
        client = await self.begin()
        self.site.abort_connections()
        self.assertTrue(self.opened[0].closed)

        def rest() -> int:
            size = 0
            with contextlib.suppress(OSError):
                while chunk := client.recv(65_536):
                    size += len(chunk)
            return size

        self.assertLess(await deferToThread(rest), SIZE - 1000)
        await self.until(lambda: not self.site.connections)


class StaticFileOverTLSTests(StaticFileTests):
    """The same over TLS."""

    is_tls = True


class RenderTests(SynchronousTestCase):
    """Resources that return, write and fail, in a tree below `/`."""

    def setUp(self) -> None:
        self.root = Resource()
        self.client = Client(MirrorSite(Clock(), self.root))

    def put(self, name: bytes, render: Callable[[Any], object]) -> None:
        class Rendering(Resource):
            def render_GET(self, request: Any) -> object:
                return render(request)

            render_POST = render_GET

        self.root.putChild(name, Rendering())

    def assert_error(self, got: Got, status: int, code: str) -> None:
        self.assertEqual((status, "application/json"), (got.status, got.headers["content-type"]))
        self.assertEqual(code, json.loads(got.body)["errors"][0]["code"])

    def test_bytes(self) -> None:
        """What a resource returns is sent with its length; a HEAD gets the length only."""
        self.put(b"a", lambda request: b"hello")
        got = self.client.get("/a")
        self.assertEqual((200, "5", b"hello"), (got.status, got.headers["content-length"], got.body))
        got = self.client.get("/a", method="HEAD")
        self.assertEqual((200, "5", b""), (got.status, got.headers["content-length"], got.body))

    def test_headers_for_browsers(self) -> None:
        """A browser may run nothing, unless the resource sets a policy of its own."""
        self.put(b"a", lambda request: b"hello")
        headers = self.client.get("/a").headers
        self.assertEqual("nosniff", headers["x-content-type-options"])
        self.assertEqual("default-src 'none'; frame-ancestors 'none'", headers["content-security-policy"])
        own = b"default-src 'none'; script-src 'self'"
        self.put(b"b", lambda request: request.setHeader(b"Content-Security-Policy", own) or b"hello")
        self.assertEqual(own.decode(), self.client.get("/b").headers["content-security-policy"])

    def test_empty(self) -> None:
        """An empty page has a length of 0; one of a 204 has none."""
        self.put(b"a", lambda request: b"")
        self.assertEqual("0", self.client.get("/a").headers["content-length"])
        self.put(b"b", lambda request: request.setResponseCode(204) or b"")
        got = self.client.get("/b")
        self.assertEqual((204, False), (got.status, "content-length" in got.headers))

    def test_written(self) -> None:
        """What is written without a length is chunked, and what is finished later pipelines."""
        waiting: list[Any] = []
        self.root.putChild(b"a", CallbackResource(waiting.append))
        self.client.send(head("/a") + head("/a"))
        (request,) = list(waiting)
        request.setHeader(b"X-Name", b"a\r\nb")
        request.write(b"one")
        request.write(b"two")
        request.finish()
        waiting[1].finish()
        first, second = read_answers(self.client.wire.value())
        self.assertEqual((b"onetwo", "chunked"), (first.body, first.headers["transfer-encoding"]))
        self.assertEqual("a b", first.headers["x-name"])
        self.assertEqual(b"", second.body)

    def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 gets no chunks, and the connection is closed."""
        self.put(b"a", lambda request: request.write(b"one") or request.finish() or NOT_DONE_YET)
        self.client.send(head("/a", version="HTTP/1.0"))
        self.assertTrue(self.client.wire.value().endswith(b"\r\n\r\none"))
        self.assertIn(b"\r\nConnection: close\r\n", self.client.wire.value())
        self.assertTrue(self.client.wire.disconnecting)

    def test_path(self) -> None:
        """A leaf gets the decoded segments before and after it, the query's parameters and its own URL."""
        seen: list[Any] = []

        def callback(request: MirrorRequest) -> None:
            seen.extend((request.prepath, request.postpath, request.path, request.args))
            seen.extend((request.prePathURL(), str(request.URLPath())))
            request.finish()

        branch = Resource()
        branch.putChild(b"b c", CallbackResource(callback))
        self.root.putChild(b"a", branch)
        self.client.get("/a/b%20c/d/%2f?x=1&x=%32&y=")
        self.assertEqual([[b"a", b"b c"], [b"d", b"/"], b"/a/b%20c/d/%2f"], seen[:3])
        self.assertEqual({b"x": [b"1", b"2"], b"y": [b""]}, seen[3])
        self.assertEqual([b"http://mirror/a/b%20c", "http://mirror/a/b%20c"], seen[4:])
        seen.clear()
        self.client.get("http://other:80/a/b%20c")
        self.assertEqual([b"/a/b%20c", {}, b"http://other:80/a/b%20c"], seen[2:5])

    def test_fails(self) -> None:
        """A resource that raises, returns no bytes or cannot find its child is a 500 in JSON, logged once."""

        class Broken(Resource):
            def getChild(self, path: bytes, request: Any) -> Any:
                raise ZeroDivisionError("secret")

        self.put(b"a", lambda request: 1 // 0)
        self.put(b"b", lambda request: None)
        self.root.putChild(b"c", Broken())
        for path, error in (("/a", ZeroDivisionError), ("/b", TypeError), ("/c/d", ZeroDivisionError)):
            got = self.client.get(path)
            self.assert_error(got, 500, "UNKNOWN")
            self.assertNotIn(b"secret", got.body)
            self.assertEqual(1, len(self.flushLoggedErrors(error)), path)
        self.assertFalse(self.client.wire.disconnecting)

    def test_fails_late(self) -> None:
        """A resource that raises after it has begun to write ends the connection, without an error page."""
        self.put(b"a", lambda request: request.write(b"one") or 1 // 0)
        self.client.send(head("/a"))
        self.assertTrue(self.client.wire.value().endswith(b"3\r\none\r\n"))
        self.assertTrue(self.client.wire.disconnecting)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_unavailable(self) -> None:
        """A tree that is unavailable responds to every path and method with a 503 in JSON."""
        self.client.site.resource = UnavailableResource("the mirror is starting")
        for method in ("GET", "HEAD", "POST", "BREW"):
            got = self.client.get("/v2/a/b", method=method)
            self.assertEqual((503, "application/json"), (got.status, got.headers["content-type"]))

    def test_unknown(self) -> None:
        """A path below a JSONResource is a 404 in JSON, and a 405 for other methods than GET and HEAD."""
        self.root.putChild(b"a", JSONResource())
        self.assert_error(self.client.get("/a/b/c"), 404, "NAME_UNKNOWN")
        self.assertEqual("GET, HEAD", self.client.get("/a/b", method="POST").headers["allow"])

    def test_async(self) -> None:
        """When a client disconnects, the coroutine of its GET is cancelled, but not that of its POST."""
        waiting: list[Deferred[None]] = []

        class Waiting(AsyncResource):
            methods = (b"GET", b"POST")
            error_headers = ((b"X-Name", b"value"),)

            async def render_GET(self, request: Any) -> None:
                waiting.append(Deferred())
                await waiting[-1]
                request.respond(Response.whole(200, b"done"))

            render_POST = render_GET

        self.root.putChild(b"a", Waiting())
        got = self.client.get("/a", method="HEAD")
        self.assertEqual(
            (405, "GET, POST", "value"), (got.status, got.headers["allow"], got.headers["x-name"])
        )
        for method, is_cancelled in (("GET", True), ("POST", False)):
            client = Client(self.client.site)
            client.send(head("/a", method=method))
            client.leave()
            self.assertEqual(is_cancelled, waiting[-1].called, method)
        waiting[-1].callback(None)
        self.client.wire.clear()
        self.client.send(head("/a"))
        waiting[-1].errback(ZeroDivisionError())
        self.assert_error(self.client.got(), 500, "UNKNOWN")
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_notified(self) -> None:
        """`notifyFinish` fires when the response is complete, and fails when the client disconnects."""
        notified: list[Deferred[None]] = []
        requests: list[Any] = []

        def render(request: Any) -> object:
            requests.append(request)
            notified.append(request.notifyFinish())
            return NOT_DONE_YET

        self.put(b"a", render)
        self.client.send(head("/a") + head("/a"))
        requests[0].finish()
        self.successResultOf(notified[0])
        self.assertNoResult(notified[1])
        self.client.leave()
        self.failureResultOf(notified[1])

    def test_unread_body(self) -> None:
        """A resource need not read the body; the connection is the last request's then."""
        self.put(b"a", lambda request: b"hello")
        self.client.send(head("/a", "Content-Length: 5", method="POST"))
        got = self.client.got()
        self.assertEqual((200, b"hello", "close"), (got.status, got.body, got.headers["connection"]))
        self.client.send(b"12345" + head("/a"))
        self.assertEqual(1, len(read_answers(self.client.wire.value())))
        self.assertTrue(self.client.wire.disconnecting)

    def test_whole_body(self) -> None:
        """After a body that was read, the connection is kept."""

        def callback(request: MirrorRequest) -> None:
            async def respond() -> None:
                assert request.body is not None
                body = b""
                while chunk := await request.body.read():
                    body += chunk
                request.write(body)
                request.finish()

            Deferred.fromCoroutine(respond())

        self.root.putChild(b"a", CallbackResource(callback))
        self.client.send(head("/a", "Content-Length: 5", method="POST") + b"12345" + head("/nowhere"))
        first, second = read_answers(self.client.wire.value())
        self.assertEqual((b"12345", 404), (first.body, second.status))
