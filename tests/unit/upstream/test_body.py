"""Tests of mirrord/upstream/body.py, in memory."""

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import TransportProxyProducer
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss

from mirrord.oci.errors import UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from mirrord.upstream.body import (
    CHUNK_BYTES,
    DOCUMENT_IDLE_SECONDS,
    HIGH_WATER_BYTES,
    LINGER_SECONDS,
    BodyReader,
    UpstreamBlobBody,
    abort_connection,
)
from mirrord.upstream.retry import Deadline
from tests.unit.upstream.scripted import FakeResponse, FakeTransport, Reply

IDLE = 30.0
PIECE = b"x" * 65536


class BodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.received: list[int] = []
        self.reader = BodyReader(self.clock, IDLE, self.received.append)

    def open(self, length: int = 0, *, is_chunked: bool = True) -> tuple[UpstreamBlobBody, FakeResponse]:
        response = FakeResponse(Reply(body=b"x" * length, is_chunked=is_chunked), is_whole=False)
        return self.reader.open(response), response

    def read(self, body: UpstreamBlobBody) -> "Deferred[bytes]":
        return Deferred.fromCoroutine(body.read())

    def test_waiting_reader(self) -> None:
        """A waiting reader gets all bytes of the linger time, joined."""
        body, response = self.open()
        chunk = self.read(body)
        response.protocol.dataReceived(b"ab")
        self.assertNoResult(chunk)
        response.protocol.dataReceived(b"cd")
        self.clock.advance(LINGER_SECONDS)

        self.assertEqual(b"abcd", self.successResultOf(chunk))
        self.assertEqual([2, 2], self.received)

    def test_full_chunk(self) -> None:
        """A full chunk is delivered at once, and never more than that."""
        body, response = self.open()
        chunk = self.read(body)
        for _ in range(5):
            response.protocol.dataReceived(PIECE)

        self.assertEqual(CHUNK_BYTES, len(self.successResultOf(chunk)))
        self.assertEqual(len(PIECE), len(self.successResultOf(self.read(body))))

    def test_back_pressure(self) -> None:
        """At the high-water mark the connection is paused, again for each arrival above it."""
        body, response = self.open()
        for _ in range(HIGH_WATER_BYTES // len(PIECE)):
            response.protocol.dataReceived(PIECE)
        response.protocol.dataReceived(b"more")
        self.assertEqual(["pauseProducing"] * 2, response.transport.calls)

        self.successResultOf(self.read(body))
        self.assertNotIn("resumeProducing", response.transport.calls)
        self.successResultOf(self.read(body))
        self.assertEqual("resumeProducing", response.transport.calls[-1])

    def test_lost_while_full(self) -> None:
        """Bytes buffered before a lost connection are read first, then the error."""
        body, response = self.open()
        for _ in range(9):
            response.protocol.dataReceived(PIECE)
        response.end(ConnectionLost())

        read = b""
        while len(read) < 9 * len(PIECE):
            read += self.successResultOf(self.read(body))
        self.failureResultOf(self.read(body), UpstreamUnreachable)

    def test_end(self) -> None:
        """After the last byte every read is empty."""
        body, response = self.open()
        response.protocol.dataReceived(b"all")
        response.end(PotentialDataLoss())

        self.assertEqual([b"all", b"", b""], [self.successResultOf(self.read(body)) for _ in range(3)])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_short(self) -> None:
        """A body that ends before its length is an error, however it ends."""
        for reason in (None, PotentialDataLoss(), ResponseFailed([])):
            body, response = self.open(10, is_chunked=False)
            response.protocol.dataReceived(b"123456789")
            response.end(reason)

            self.assertEqual(b"123456789", self.successResultOf(self.read(body)))
            self.failureResultOf(self.read(body), UpstreamUnreachable)

    def test_idle_timeout(self) -> None:
        """The connection of a body is closed after the idle timeout."""
        body, response = self.open()
        self.clock.advance(IDLE - 1)
        response.protocol.dataReceived(b"a")
        self.clock.advance(IDLE - 1)
        self.assertEqual([], response.transport.calls)
        self.clock.advance(1)

        self.assertEqual(["abortConnection"], response.transport.calls)
        self.assertEqual(b"a", self.successResultOf(self.read(body)))
        self.failureResultOf(self.read(body), UpstreamTimeout)

    def test_slow_reader(self) -> None:
        """While the connection is paused for a slow reader, the idle timeout does not run."""
        body, response = self.open()
        for _ in range(8):
            response.protocol.dataReceived(PIECE)
        self.clock.advance(10 * IDLE)
        self.assertEqual(["pauseProducing"], response.transport.calls)

        self.successResultOf(self.read(body))
        self.clock.advance(IDLE)
        self.assertEqual("abortConnection", response.transport.calls[-1])

    def test_abort(self) -> None:
        """An abort closes the connection once, drops buffered bytes and fails the waiting read."""
        body, response = self.open()
        waiting = self.read(body)
        body.abort()
        body.abort()

        self.assertEqual(["abortConnection"], response.transport.calls)
        self.failureResultOf(waiting, UpstreamUnreachable)
        response.protocol.dataReceived(b"late")
        response.end(ConnectionLost())
        self.failureResultOf(self.read(body), UpstreamUnreachable)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_abort_after_end(self) -> None:
        """An abort after the end does not close the connection, which may be in use again."""
        body, response = self.open()
        response.end()
        body.abort()

        self.assertEqual([], response.transport.calls)

    def test_cancelled_read(self) -> None:
        """A cancelled read loses no bytes: the next one gets them."""
        body, response = self.open()
        waiting = self.read(body)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        response.protocol.dataReceived(b"a")
        self.clock.advance(1)

        self.assertEqual(b"a", self.successResultOf(self.read(body)))

    def test_read_all(self) -> None:
        """A whole body is read up to its limit; a longer one is aborted."""
        deadline = Deadline.after(self.clock, 5)
        whole = self.reader.read_all(FakeResponse(Reply(body=b"12345")), 5, deadline)
        self.assertEqual(b"12345", self.successResultOf(Deferred.fromCoroutine(whole)))

        response = FakeResponse(Reply(body=b"123456"), is_whole=False)
        longer = Deferred.fromCoroutine(self.reader.read_all(response, 5, deadline))
        response.protocol.dataReceived(b"123456")
        self.clock.advance(1)
        self.failureResultOf(longer, UpstreamRefused)
        self.assertEqual(["abortConnection"], response.transport.calls)

    def test_read_all_in_time(self) -> None:
        """A whole body is aborted at the deadline."""
        response = FakeResponse(Reply(body=b"12345"), is_whole=False)
        late = Deferred.fromCoroutine(self.reader.read_all(response, 5, Deadline.after(self.clock, 5)))
        self.clock.advance(5)

        self.failureResultOf(late, UpstreamTimeout)
        self.assertEqual(["abortConnection"], response.transport.calls)

    def test_read_all_with_pauses(self) -> None:
        """A whole body may be slow, but not idle for long."""
        response = FakeResponse(Reply(body=b"1234567"), is_whole=False)
        slow = Deferred.fromCoroutine(self.reader.read_all(response, 7, Deadline.after(self.clock, 60)))
        for _ in range(3):
            self.clock.advance(DOCUMENT_IDLE_SECONDS - 1)
            response.protocol.dataReceived(b"12")
            self.clock.advance(LINGER_SECONDS)
        self.assertNoResult(slow)
        self.clock.advance(DOCUMENT_IDLE_SECONDS)

        self.failureResultOf(slow, UpstreamTimeout)

    def test_discard(self) -> None:
        """A discarded body is read to its end if it is short, and aborted if it is long or slow."""
        deadline = Deadline.after(self.clock, 60)
        short, long, slow = (FakeResponse(Reply(), is_whole=False) for _ in range(3))
        discarded = [
            Deferred.fromCoroutine(self.reader.discard(each, deadline)) for each in (short, long, slow)
        ]
        short.protocol.dataReceived(b"a")
        short.end()
        long.protocol.dataReceived(PIECE + b"a")
        self.clock.advance(1)

        for each in discarded:
            self.successResultOf(each)
        self.assertEqual(
            [[], ["abortConnection"], ["abortConnection"]],
            [each.transport.calls for each in (short, long, slow)],
        )


class AbortTests(SynchronousTestCase):
    def test_behind_the_proxy(self) -> None:
        """The abort uses the transport behind Twisted's proxy; without one it does nothing."""
        transport = FakeTransport()
        proxied = TransportProxyProducer(transport)
        abort_connection(proxied)
        self.assertEqual(["abortConnection"], transport.calls)
        proxied.stopProxying()
        abort_connection(proxied)
        abort_connection(None)
        self.assertEqual(["abortConnection"], transport.calls)
