"""A connection has limits and deadlines, and rejects bad requests early."""

import json
import random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel

from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import ConnectionLimits, MirrorSite
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, head, read_answers

LIMITS = ConnectionLimits(stall_seconds=60, head_seconds=20, idle_seconds=120, closing_seconds=10)


class ChannelCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[MirrorRequest] = []
        self.site = MirrorSite(self.clock, CallbackResource(self.respond), limits=LIMITS)
        self.client = Client(self.site)
        self.wire = self.client.wire

    def respond(self, request: MirrorRequest) -> None:
        self.requests.append(request)
        if request.uri != b"/slow":
            request.respond(Response.whole(200, b"hello"))

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)


class ParsingTests(ChannelCase):
    def test_answer(self) -> None:
        """After a response the connection is kept."""
        got = self.client.get("/v2/")

        self.assertEqual((200, b"hello"), (got.status, got.body))
        self.assertNotIn("connection", got.headers)
        self.assertIn("date", got.headers)
        self.assertFalse(self.wire.disconnecting)

    def test_head(self) -> None:
        """HEAD gets the headers of GET and no body."""
        got = self.client.get("/v2/", method="HEAD")

        self.assertEqual("5", got.headers["content-length"])
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))

    def test_pipelining(self) -> None:
        """Pipelined requests get their responses in order, also when the first one waits."""
        self.client.send(head("/slow") + head("/b"))
        self.assertEqual([b"/slow"], [request.uri for request in self.requests])

        self.requests[0].respond(Response.whole(200, b"first"))

        self.assertEqual([b"first", b"hello"], [got.body for got in read_answers(self.wire.value())])

    def test_pipelining_without_reading(self) -> None:
        """While the client does not read a response, its next request is not even parsed."""
        self.client.send(head("/slow") + head("/b") + head("/c"))
        self.wire.producer.pauseProducing()
        self.requests[0].respond(Response.whole(200, b"first"))
        self.assertEqual([b"/slow"], [request.uri for request in self.requests])
        self.assertEqual("paused", self.wire.producerState)

        self.wire.producer.resumeProducing()

        self.assertEqual([b"/slow", b"/b", b"/c"], [request.uri for request in self.requests])
        self.assertEqual("producing", self.wire.producerState)

    def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 gets a response of its version, and the connection is closed."""
        self.client.send(head("/", version="HTTP/1.0"))

        self.assertTrue(self.wire.value().startswith(b"HTTP/1.0 200 OK\r\n"))
        self.assertTrue(self.wire.disconnecting)

    def test_connection_close(self) -> None:
        """`close` is found anywhere in the Connection headers."""
        got = self.client.get("/", "Connection: keep-alive, Close")

        self.assertEqual("close", got.headers["connection"])
        self.assertTrue(self.wire.disconnecting)

    def test_large_headers(self) -> None:
        """Headers of 60 KiB in total are accepted: podman's ranges take 20."""
        self.assertEqual(200, self.client.get("/", "Range: bytes=" + "1-2," * 15_000 + "1-2").status)

    def test_one_line_too_large(self) -> None:
        """A header beyond the limit gets a 431 with the error document, and the rest is dropped."""
        self.client.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000)
        self.client.send(b"a" * 1000 + b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")

        self.assert_refused(431, "SIZE_INVALID")

    def test_many_lines_too_large(self) -> None:
        """Many headers that are too large together get a 431 as well."""
        self.client.send(b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 9000 + b"\r\n") * 8 + b"\r\n")

        self.assert_refused(431, "SIZE_INVALID")

    def test_too_many(self) -> None:
        """More than 500 headers get a 431."""
        self.client.send(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 510 + b"\r\n")

        self.assert_refused(431, "SIZE_INVALID")

    def test_long_request_line(self) -> None:
        """A request line beyond the limit gets a 414."""
        self.client.send(b"GET /" + b"a" * 70_000)

        self.assert_refused(414, "SIZE_INVALID")

    def test_malformed(self) -> None:
        """Bytes that are not HTTP/1.1 get a 400 with the error document, once."""
        for sent in (
            b"NONSENSE\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"G=T / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"PUT / HTTP/1.1\r\nContent-Length: " + b"9" * 4400 + b"\r\n\r\n",
            b"PUT / HTTP/1.1\r\nContent-Length: 1\r\n " + b"9" * 4400 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"\x16\x03\x01\x02\r\n\r\n",
        ):
            with self.subTest(sent=sent):
                self.client = Client(self.site)
                self.wire = self.client.wire
                self.client.send(sent + b"GET / HTTP/1.1\r\n\r\n")
                self.assert_refused(400, "UNSUPPORTED")
                self.assertEqual([], self.flushLoggedErrors())

    def test_not_addressed(self) -> None:
        """A request without a Host, with two, or with an invalid one gets a 400, and is the last."""
        for version, fields in (
            ("1.1", ""),
            ("1.1", "Host: a\r\nHost: a\r\n"),
            ("1.0", "Host: a\r\nHost: b\r\n"),
            ("1.1", "Host: a, b\r\n"),
            ("1.1", "Host: me@a\r\n"),
            ("1.1", "Host: a/b\r\n"),
            ("1.1", "Host: a:b\r\n"),
            ("1.1", "Host: <b>\r\n"),
        ):
            with self.subTest(fields=fields):
                self.client = Client(self.site)
                self.wire = self.client.wire
                self.client.send(f"GET / HTTP/{version}\r\n{fields}\r\n".encode() + head("/"))
                self.assert_refused(400, "UNSUPPORTED")
        self.assertEqual([], self.requests)

    def test_addressed(self) -> None:
        """A host is a name or an address, with or without a port, and may be empty; HTTP/1.0 needs none."""
        for version, fields in (
            ("1.1", "Host: mirror.lan\r\n"),
            ("1.1", "host: my_mirror:5000\r\n"),
            ("1.1", "Host: [fe80::1%25eth0]:5000\r\n"),
            ("1.1", "Host:\r\n"),
            ("1.0", ""),
        ):
            with self.subTest(fields=fields):
                client = Client(self.site)
                client.send(f"GET / HTTP/{version}\r\n{fields}\r\n".encode())
                self.assertEqual(200, client.got().status)

    def test_tls(self) -> None:
        """A client that speaks TLS, as podman does first, gets a 400 before a line has ended."""
        self.client.send(b"\x16\x03\x01\x02\x00\x01\x00")

        self.assert_refused(400, "UNSUPPORTED")

    def test_any_bytes(self) -> None:
        """Random bytes, in pieces, cause no exception and no HTML."""
        dice = random.Random(7)
        for _ in range(300):
            client = Client(self.site)
            sent = bytearray(head("/v2/", "A: b", "Content-Length: 3") + b"abc" + head("/"))
            for _ in range(dice.randrange(8)):
                sent[dice.randrange(len(sent))] = dice.randrange(256)
            cut = dice.randrange(len(sent))
            client.send(bytes(sent[:cut]))
            client.send(bytes(sent[cut:]))
            self.assertNotIn(b"<", client.wire.value())
        self.assertEqual([], self.flushLoggedErrors())

    def assert_refused(self, status: int, code: str) -> None:
        answers = read_answers(self.wire.value())
        self.assertEqual([status], [got.status for got in answers])
        self.assertEqual(code, json.loads(answers[0].body)["errors"][0]["code"])
        self.assertEqual("registry/2.0", answers[0].headers["docker-distribution-api-version"])
        self.assertEqual("close", answers[0].headers["connection"])


class BodyTests(ChannelCase):
    def test_get(self) -> None:
        """A GET with a body gets a 413."""
        self.client.send(head("/v2/", "Content-Length: 1") + b"x" + head("/v2/"))

        self.assertEqual([413], [got.status for got in read_answers(self.wire.value())])
        self.assertEqual([], self.requests)

    def test_head(self) -> None:
        """A rejected HEAD gets headers only."""
        self.client.send(head("/v2/", "Content-Length: 1", method="HEAD"))

        self.assertTrue(self.wire.value().startswith(b"HTTP/1.1 413 "))
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))

    def test_empty(self) -> None:
        """A body of no bytes is no body."""
        self.assertEqual(200, self.client.get("/v2/", "Content-Length: 0").status)


class DeadlineTests(ChannelCase):
    def test_opening(self) -> None:
        """What precedes HTTP, such as a handshake, has the time of a head, even if it makes progress."""
        self.wire.is_opening = True
        for _ in range(19):
            self.wire.taken += 1
            self.clock.advance(1)
        self.assertFalse(self.wire.disconnected)

        self.clock.advance(1)

        self.assertTrue(self.wire.disconnected)

    def test_slow_head(self) -> None:
        """A head that is incomplete 20 s after its first byte closes the connection, even if bytes arrive."""
        for byte in head("/")[:19]:
            self.client.send(bytes([byte]))
            self.pass_time(1)
        self.assertFalse(self.wire.disconnecting)

        self.pass_time(2)

        self.assertTrue(self.wire.disconnecting)

    def test_complete_head(self) -> None:
        """A head that arrives in two pieces in time gets a response, and its deadline is cancelled."""
        self.client.send(head("/")[:10])
        self.pass_time(15)
        self.client.send(head("/")[10:])
        self.pass_time(30)

        self.assertEqual(200, self.client.got().status)
        self.assertFalse(self.wire.disconnecting)

    def test_pipelined_piece(self) -> None:
        """A part of the next head that arrived with a request has its deadline from the response on."""
        self.client.send(head("/slow") + b"GET /")
        self.pass_time(30)
        self.requests[0].respond(Response.whole(200, b""))
        self.pass_time(18)
        self.assertFalse(self.wire.disconnecting)

        self.pass_time(4)

        self.assertTrue(self.wire.disconnecting)

    def test_idle(self) -> None:
        """An idle connection is closed after 120 s, counted from the last response."""
        self.pass_time(100)
        self.client.get("/")
        self.pass_time(118)
        self.assertFalse(self.wire.disconnecting)

        self.pass_time(4)

        self.assertTrue(self.wire.disconnecting)

    def test_waiting_for_us(self) -> None:
        """A client that waits for a slow response is not stalled."""
        self.client.send(head("/slow"))

        self.pass_time(1000)

        self.assertFalse(self.wire.disconnecting)

    def test_stalled(self) -> None:
        """A client that reads nothing of what is sent is disconnected after the stall timeout."""
        self.client.send(head("/slow"))
        self.pass_time(100)
        self.wire.is_behind = True
        self.pass_time(58)
        self.assertFalse(self.wire.disconnected)

        self.pass_time(4)

        self.assertTrue(self.wire.disconnected)

    def test_slow(self) -> None:
        """A client that reads a byte now and then stays connected."""
        self.client.send(head("/slow"))
        self.wire.is_behind = True
        for _ in range(10):
            self.pass_time(50)
            self.wire.taken += 1

        self.assertFalse(self.wire.disconnected)

    def test_does_not_close(self) -> None:
        """A peer that does not close after us is disconnected after 10 s."""
        self.client.get("/", "Connection: close")
        self.pass_time(8)
        self.assertFalse(self.wire.disconnected)

        self.pass_time(4)

        self.assertTrue(self.wire.disconnected)

    def test_slow_after_close(self) -> None:
        """What is still being sent when we close may take any time while it makes progress."""
        self.wire.is_behind = True
        self.client.get("/", "Connection: close")
        for _ in range(10):
            self.pass_time(30)
            self.wire.taken += 1

        self.assertFalse(self.wire.disconnected)

    def test_no_clock_without_clients(self) -> None:
        """When the last client has disconnected, no timer runs."""
        self.client.get("/")
        self.client.leave()

        self.assertEqual([], self.clock.getDelayedCalls())


class LeavingTests(ChannelCase):
    def test_cancel(self) -> None:
        """When the client disconnects, what its response waits for is cancelled."""
        self.client.send(head("/slow"))
        waiting = self.requests[0].waiting = Deferred()

        self.client.leave()

        self.failureResultOf(waiting)

    def test_half_closed_while_answering(self) -> None:
        """A client that closes its half still gets the rest of a response that has begun."""
        self.client.send(head("/slow"))
        self.requests[0].begin(Response(200, (), 5))

        self.client.channel.readConnectionLost()
        self.assertFalse(self.wire.disconnecting)
        self.requests[0].write(b"hello")
        self.requests[0].finish()

        self.assertEqual(b"hello", self.client.got().body)
        self.assertTrue(self.wire.disconnecting)

    def test_half_closed_while_waiting(self) -> None:
        """A client that closes its half before its response has begun has disconnected."""
        self.client.send(head("/slow"))

        self.client.channel.readConnectionLost()

        self.assertTrue(self.wire.disconnecting)

    def test_abort(self) -> None:
        """An aborted response closes the connection short of its length, and without a reset."""
        self.client.send(head("/slow"))
        self.requests[0].begin(Response(200, (), 5))

        self.requests[0].abort()

        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.wire.disconnected)


class TwistedTests(SynchronousTestCase):
    def test_private_parts(self) -> None:
        """The private parts of Twisted's channel that we use exist."""
        channel = HTTPChannel()

        for name in (
            "_handlingRequest",
            "_buffer",
            "_receivedHeaderSize",
            "_receivedHeaderCount",
            "requests",
        ):
            self.assertTrue(hasattr(channel, name), name)
        for name in ("_respondToBadRequestAndDisconnect", "allHeadersReceived", "requestDone", "setRawMode"):
            self.assertTrue(callable(getattr(channel, name)), name)
