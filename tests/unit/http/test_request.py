"""A request that has ended reports its time, its status and its bytes."""

from typing import cast

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.request import BodyWriter, MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import MirrorSite
from mirrord.observe.access_log import CLIENT_LEFT, AccessRecord
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, head


class EndTests(SynchronousTestCase):
    """Requests with and without a complete response."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.requests: list[MirrorRequest] = []
        self.ended: list[tuple[float, bool]] = []
        self.client = Client(MirrorSite(self.clock, CallbackResource(self.take)))

    def take(self, request: MirrorRequest) -> None:
        self.requests.append(request)
        request.ended = lambda seconds: self.ended.append((seconds, request.is_aborted))

    def ask(self, path: str = "/v2/", *headers: str, method: str = "GET") -> MirrorRequest:
        self.client.send(head(path, *headers, method=method))
        return self.requests[-1]

    def test_answered(self) -> None:
        """The duration is reported once, when the response is complete."""
        request = self.ask("/v2/x?ns=quay.io", "User-Agent: docker", "Referer: http://here/")
        self.clock.advance(1.5)
        self.assertEqual([], self.ended)
        request.respond(Response.whole(200, b"body"))
        self.client.leave()

        self.assertEqual([(1.5, False)], self.ended)
        expected = AccessRecord(
            client="192.168.1.1",
            at=100,
            method="GET",
            target="/v2/x?ns=quay.io",
            version="HTTP/1.1",
            status=200,
            sent_bytes=4,
            referrer="http://here/",
            agent="docker",
        )
        self.assertEqual(expected, request.access())

    def test_head(self) -> None:
        """The response to a HEAD has no bytes."""
        request = self.ask(method="HEAD")
        request.respond(Response.whole(404, b"body"))
        self.assertEqual((404, 0), (request.access().status, request.access().sent_bytes))

    def test_left(self) -> None:
        """A request whose client disconnects before the response has a status of its own."""
        request = self.ask()
        self.clock.advance(2)
        self.client.leave()
        self.assertEqual([(2, True)], self.ended)
        self.assertEqual((CLIENT_LEFT, 0), (request.access().status, request.access().sent_bytes))

    def test_cut(self) -> None:
        """An aborted response has its status, and the number of bytes that were written of it."""
        request = self.ask()
        request.begin(Response(200, (), 10))
        request.write(b"12345")
        self.client.leave()
        self.assertEqual([(0, True)], self.ended)
        self.assertEqual((200, 5), (request.access().status, request.access().sent_bytes))

    def test_unread(self) -> None:
        """An incomplete head is no request."""
        self.client.send(b"GET /v2/ HTTP/1.1\r\nHost: mi")
        self.client.leave()
        self.assertEqual([], self.ended)


class BodyWriterTests(SynchronousTestCase):
    """A body is written no faster than its client reads it."""

    def setUp(self) -> None:
        self.written: list[int] = []

    def test_room(self) -> None:
        """There is room until the transport pauses the writer, and again when it resumes it."""
        writer = BodyWriter(cast("MirrorRequest", None), self.written.append)
        self.successResultOf(ensureDeferred(writer.has_room()))

        writer.pauseProducing()
        waiting = ensureDeferred(writer.has_room())
        self.assertNoResult(waiting)
        writer.resumeProducing()

        self.successResultOf(waiting)

    def test_cancelled(self) -> None:
        """Room that comes after the waiter was cancelled is ignored."""
        writer = BodyWriter(cast("MirrorRequest", None), self.written.append)
        writer.pauseProducing()
        waiting = ensureDeferred(writer.has_room())

        waiting.cancel()
        writer.resumeProducing()

        self.failureResultOf(waiting)
