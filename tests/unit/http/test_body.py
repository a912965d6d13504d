"""A body is read on request, at the pace of its reader, and not before."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.body import BUFFERED_BYTES, CHUNK_BYTES, MIN_BYTES
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import ConnectionLimits, MirrorSite
from mirrord.oci.errors import RequestTimeout
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, head, read_answers

DONE = Response.whole(201, b"")
NO = Response.whole(401, b"no")


class BodyCase(SynchronousTestCase):
    """A client with a request whose body the test reads."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[MirrorRequest] = []
        self.site = MirrorSite(
            self.clock, CallbackResource(self.requests.append), limits=ConnectionLimits(upload_seconds=30)
        )
        self.client = Client(self.site)
        self.wire = self.client.wire

    def begin(self, *headers: str, method: str = "PUT") -> None:
        self.client.send(head("/v2/x", *headers, method=method))

    def read(self) -> "Deferred[bytes]":
        (request,) = self.requests[-1:]
        assert request.body is not None
        return Deferred.fromCoroutine(request.body.read())

    def respond(self, answer: Response = DONE) -> None:
        self.requests[-1].respond(answer)

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)


class ReadingTests(BodyCase):
    def test_by_length(self) -> None:
        """A body of a known length is returned as it arrives, followed by its end."""
        self.begin("Content-Length: 6")
        first = self.read()
        self.assertNoResult(first)
        self.client.send(b"abc")
        self.assertEqual(b"abc", self.successResultOf(first))
        self.client.send(b"def")

        self.assertEqual(b"def", self.successResultOf(self.read()))
        self.assertEqual(b"", self.successResultOf(self.read()))
        self.assertEqual(6, self.requests[0].body and self.requests[0].body.length)

    def test_chunked(self) -> None:
        """A body of unknown length is returned without its chunk framing."""
        self.begin("Transfer-Encoding: chunked", method="PATCH")
        self.client.send(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")

        self.assertEqual(b"abcdef", self.successResultOf(self.read()))
        self.assertEqual(b"", self.successResultOf(self.read()))

    def test_collected(self) -> None:
        """What has arrived since the last read is one chunk, of at most CHUNK_BYTES."""
        self.begin(f"Content-Length: {CHUNK_BYTES + 10}")
        for _ in range(2):
            self.client.send(bytes(CHUNK_BYTES // 2))
        self.client.send(b"0123456789")

        self.assertEqual(CHUNK_BYTES, len(self.successResultOf(self.read())))
        self.assertEqual(b"0123456789", self.successResultOf(self.read()))

    def test_keeps_alive(self) -> None:
        """After a body that was read to its end the connection serves the next request."""
        self.begin("Content-Length: 3")
        reading = self.read()
        self.client.send(b"abc" + head("/v2/y"))
        self.successResultOf(reading)
        self.respond()
        self.respond(Response.whole(200, b"next"))

        self.assertEqual([201, 200], [got.status for got in read_answers(self.wire.value())])
        self.assertFalse(self.wire.disconnecting)

    def test_waits_for_an_answer(self) -> None:
        """The next request is not parsed before the response to the body's own is complete."""
        self.begin("Content-Length: 3")
        self.client.send(b"abc" + head("/v2/y"))

        self.assertEqual([b"/v2/x"], [request.uri for request in self.requests])


class PaceTests(BodyCase):
    def test_not_wanted(self) -> None:
        """Before the first read nothing is received from the connection, and no `100 Continue` is sent."""
        self.begin("Content-Length: 3", "Expect: 100-continue")

        self.assertEqual("paused", self.wire.producerState)
        self.assertEqual(b"", self.wire.value())

    def test_wanted(self) -> None:
        """The first read sends `100 Continue`, once, and receives from the connection."""
        self.begin("Content-Length: 3", "Expect: 100-continue")
        self.read()

        self.assertEqual("producing", self.wire.producerState)
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", self.wire.value())

    def test_sent_anyway(self) -> None:
        """A client that did not wait for `100 Continue` gets none."""
        self.begin("Content-Length: 3", "Expect: 100-continue")
        self.client.send(b"a")
        self.read()

        self.assertEqual(b"", self.wire.value())

    def test_slow_disk(self) -> None:
        """A client that is faster than the reader is paused when enough is buffered, and resumed for less."""
        self.begin(f"Content-Length: {10 * BUFFERED_BYTES}")
        self.successResultOf(self.read_after(b"x"))
        self.client.send(bytes(BUFFERED_BYTES - 1))
        self.assertEqual("producing", self.wire.producerState)
        self.client.send(b"x")
        self.assertEqual("paused", self.wire.producerState)
        self.read()
        self.assertEqual("paused", self.wire.producerState)
        self.read()

        self.assertEqual("producing", self.wire.producerState)

    def read_after(self, data: bytes) -> "Deferred[bytes]":
        reading = self.read()
        self.client.send(data)
        return reading


class RefusalTests(BodyCase):
    def test_before_its_end(self) -> None:
        """A response before the end of the body is the last of the connection; the rest is dropped."""
        self.begin("Content-Length: 1000000")
        self.respond(NO)
        for _ in range(10):
            self.client.send(bytes(50_000))

        (got,) = read_answers(self.wire.value())
        self.assertEqual((401, b"no", "close"), (got.status, got.body, got.headers["connection"]))
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(0, self.requests[0].body and self.requests[0].body.received)

    def test_expecting(self) -> None:
        """A client that waits for `100 Continue` gets the early response instead."""
        self.begin("Content-Length: 3", "Expect: 100-continue")
        self.respond(NO)

        self.assertTrue(self.wire.value().startswith(b"HTTP/1.1 401 "))

    def test_smuggling(self) -> None:
        """A request with two lengths, or with a length and chunks, is rejected: no resource sees it."""
        for headers in (
            ("Content-Length: 3", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", "Content-Length: 3"),
            ("Content-Length: 3", "Content-Length: 4"),
            ("Transfer-Encoding: chunked, identity",),
            ("Content-Length: +3",),
        ):
            with self.subTest(headers=headers):
                client = Client(self.site)
                client.send(head("/v2/x", *headers, method="PUT") + b"0\r\n\r\n" + head("/v2/y"))
                self.assertEqual([400], [got.status for got in read_answers(client.wire.value())])
        self.assertEqual([], self.requests)

    def test_malformed_chunk(self) -> None:
        """A body with invalid chunk framing gets a 400, and its reader fails in the end."""
        self.begin("Transfer-Encoding: chunked")
        reading = self.read()
        self.client.send(b"nonsense\r\n")
        self.client.leave()

        self.assertEqual([400], [got.status for got in read_answers(self.wire.value())])
        self.failureResultOf(reading, CancelledError)

    def test_wrong_host(self) -> None:
        """A request without a valid Host is rejected before its body is read."""
        self.client.send(b"PUT /v2/x HTTP/1.1\r\nContent-Length: 3\r\n\r\n")

        self.assertEqual([400], [got.status for got in read_answers(self.wire.value())])
        self.assertEqual([], self.requests)


class EndTests(BodyCase):
    def test_leaving(self) -> None:
        """When a client disconnects, what it had sent is returned before the error."""
        self.begin("Content-Length: 9")
        self.client.send(b"abc")
        self.client.leave()

        self.assertEqual(b"abc", self.successResultOf(self.read()))
        self.failureResultOf(self.read(), CancelledError)

    def test_silence(self) -> None:
        """A client that is silent while its body is awaited is disconnected after the configured time."""
        self.begin("Content-Length: 9")
        reading = self.read()
        self.pass_time(29)
        self.assertNoResult(reading)
        self.pass_time(2)

        self.failureResultOf(reading, RequestTimeout)

    def test_trickle(self) -> None:
        """A byte now and then is no progress; MIN_BYTES in each period is."""
        self.begin("Content-Length: 1000000")
        reading = self.read()
        for sent in [MIN_BYTES] * 9 + [1] * 3:
            self.assertNoResult(reading)
            self.client.send(bytes(sent))
            self.successResultOf(reading)
            reading = self.read()
            self.pass_time(10)
        self.pass_time(2)

        self.failureResultOf(reading, RequestTimeout)

    def test_our_turn(self) -> None:
        """While the body is not read, no time counts against the client."""
        self.begin("Content-Length: 9")
        self.pass_time(300)

        self.assertFalse(self.wire.disconnecting)
        self.assertNoResult(self.read())

    def test_drain(self) -> None:
        """A drain lets a body arrive completely, and closes after the response."""
        self.begin("Content-Length: 3")
        reading = self.read()
        self.site.drain()
        self.client.send(b"abc")
        self.successResultOf(reading)
        self.respond()

        (got,) = read_answers(self.wire.value())
        self.assertEqual((201, "close"), (got.status, got.headers["connection"]))
        self.assertTrue(self.wire.disconnecting)
