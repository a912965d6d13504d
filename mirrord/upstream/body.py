"""Bodies: the bytes of a response, read at the reader's pace.

Twisted pushes and our readers pull; in between is a buffer with a high-water mark, at which the
connection is paused. Three properties of Twisted shape this module:

- Twisted undoes a pause in `connectionMade`, and one during the delivery of what arrived with the
  headers (twisted#9623). So we pause only when bytes arrive, and again for every arrival above the
  mark.
- A paused socket does not notice that the peer has closed, so the idle timer is stopped meanwhile: it
  measures the upstream's silence, not the reader's.
- The transport that a body protocol gets cannot abort (twisted#8227), and `loseConnection` on TLS
  waits for a close_notify that may never arrive. `abort_connection` is the one place that uses the
  real transport.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from mirrord.oci.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from mirrord.upstream.retry import Deadline

CHUNK_BYTES = 256 * 1024
"""The most that one `read` returns."""

HIGH_WATER_BYTES = 512 * 1024
"""Above this the connection is paused; what TLS has decrypted already comes on top."""

LINGER_SECONDS = 0.002
"""How long to delay a waiting reader for more bytes, so that a fast upstream causes few, large reads."""

DOCUMENT_IDLE_SECONDS = 5.0
"""The idle timeout of a short document; after that a retry is more likely to succeed."""

_DISCARD_BYTES = 64 * 1024
_DISCARD_SECONDS = 1.0


def abort_connection(transport: Any) -> None:
    """Close the connection of a response's body at once; does nothing if it is closed."""
    producer = getattr(transport, "_producer", transport)
    if producer is None:
        return
    abort = getattr(producer, "abortConnection", None) or producer.loseConnection
    abort()


class UpstreamBlobBody(Protocol):
    """The bytes of a response and their offset in the blob; implements `BlobBody` of `mirrored/ports.py`.

    It is the protocol to which Twisted delivers them. `expected` is the length of the response, if known.
    """

    transport: Any = None

    def __init__(
        self,
        *,
        offset: int,
        size: int | None,
        validator: str | None,
        expected: int | None,
        clock: IReactorTime,
        idle_seconds: float,
        received: Callable[[int], None],
        progressed: Callable[[], None],
    ) -> None:
        self.offset = offset
        self.size = size
        self.validator = validator
        self._expected = expected
        self._read_bytes = 0
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._received = received
        self._progressed = progressed
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._is_paused = False
        self._error: UpstreamError | None = None
        self._has_ended = False
        self._waiter: Deferred[None] | None = None
        self._linger: IDelayedCall | None = None
        self._idle_timer: IDelayedCall | None = clock.callLater(idle_seconds, self._timed_out)

    def dataReceived(self, data: bytes) -> None:
        """Buffer bytes; pause the connection above the high-water mark."""
        if self._has_ended:
            return
        self._received(len(data))
        self._progressed()
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered >= HIGH_WATER_BYTES:
            self._pause()
        elif self._idle_timer is not None:
            self._idle_timer.reset(self._idle_seconds)
        if self._waiter is not None:
            self._wake_soon()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the body, with an error unless it is complete."""
        if reason.check(ResponseDone, PotentialDataLoss):
            self._finish(None)
        else:
            self._finish(UpstreamUnreachable("the upstream closed the connection in the middle of a body"))

    async def read(self) -> bytes:
        """Return the next bytes, 256 KiB at most, without waiting if any are buffered; b"" after the last."""
        if not self._buffered and not self._has_ended:
            self._waiter = Deferred()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._pop()
        if not chunk and self._error is not None:
            raise self._error
        self._read_bytes += len(chunk)
        if not chunk and self._expected is not None and self._read_bytes < self._expected:
            raise UpstreamUnreachable(
                f"the upstream closed the connection after {self._read_bytes} of {self._expected} bytes"
            )
        return chunk

    def abort(self) -> None:
        """Discard the rest and close the connection; may be called at any time, also after the end."""
        if not self._has_ended:
            self._chunks.clear()
            self._buffered = 0
            self._finish(UpstreamUnreachable("the transfer was aborted"))
            abort_connection(self.transport)

    def _pop(self) -> bytes:
        """Remove up to CHUNK_BYTES from the front of the buffer."""
        pieces: list[bytes] = []
        room = CHUNK_BYTES
        while self._chunks and room:
            piece = self._chunks.popleft()
            if len(piece) > room:
                self._chunks.appendleft(piece[room:])
                piece = piece[:room]
            pieces.append(piece)
            room -= len(piece)
        self._buffered -= CHUNK_BYTES - room
        if self._is_paused and self._buffered <= HIGH_WATER_BYTES - CHUNK_BYTES:
            self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _wake_soon(self) -> None:
        """Wake the reader: at once for a full chunk, else after LINGER_SECONDS."""
        if self._buffered >= CHUNK_BYTES or self._has_ended:
            self._wake()
        elif self._linger is None:
            self._linger = self._clock.callLater(LINGER_SECONDS, self._wake)

    def _wake(self) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._linger = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def _pause(self) -> None:
        self._is_paused = True
        self._stop_idle_timer()
        self.transport.pauseProducing()

    def _resume(self) -> None:
        self._is_paused = False
        if not self._has_ended:
            self._idle_timer = self._clock.callLater(self._idle_seconds, self._timed_out)
            self.transport.resumeProducing()

    def _timed_out(self) -> None:
        self._idle_timer = None
        self._finish(UpstreamTimeout(f"no data from the upstream for {self._idle_seconds:g} s"))
        abort_connection(self.transport)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _finish(self, error: UpstreamError | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._error = error
        self._stop_idle_timer()
        self._wake()


@attrs.frozen
class BodyReader:
    """Reads the bodies of one upstream's responses; `received` is called with the size of every arrival."""

    _clock: IReactorTime
    _idle_seconds: float
    _received: Callable[[int], None]

    def open(
        self,
        response: IResponse,
        *,
        offset: int = 0,
        size: int | None = None,
        validator: str | None = None,
        progressed: Callable[[], None] = lambda: None,
    ) -> UpstreamBlobBody:
        """Start to read the body of a response, whose first byte is at `offset` of the blob.

        `progressed` is called when bytes arrive: bytes of a blob are progress, those of an error are not.
        """
        expected = None if response.length is UNKNOWN_LENGTH else int(response.length)
        body = UpstreamBlobBody(
            offset=offset,
            size=size,
            validator=validator,
            expected=expected,
            clock=self._clock,
            idle_seconds=self._idle_seconds,
            received=self._received,
            progressed=progressed,
        )
        response.deliverBody(body)
        return body

    async def read_all(self, response: IResponse, max_bytes: int, deadline: Deadline) -> bytes:
        """Read a whole body of `max_bytes` at most.

        Raises:
            UpstreamError: It is longer, the connection was lost or idle, or the deadline has passed.
        """
        body = self.open(response)
        chunks: list[bytes] = []
        room = max_bytes
        try:
            while chunk := await deadline.within(DOCUMENT_IDLE_SECONDS).wait(
                body.read(), "the rest of a response"
            ):
                room -= len(chunk)
                if room < 0:
                    raise UpstreamRefused(f"the upstream sent more than the limit of {max_bytes} bytes")
                chunks.append(chunk)
        finally:
            body.abort()
        return b"".join(chunks)

    async def discard(self, response: IResponse, deadline: Deadline) -> None:
        """Read a short body so that its connection can be reused; close that of a long one."""
        try:
            await self.read_all(response, _DISCARD_BYTES, deadline.within(_DISCARD_SECONDS))
        except UpstreamError:
            return
