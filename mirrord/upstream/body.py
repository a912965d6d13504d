"""Bodies: the bytes of an answer, read at the reader's pace.

Twisted pushes and our readers pull; in between stands a buffer with a high-water mark, at which
the connection is paused. Three of Twisted's habits shape this module:

- A pause in `connectionMade` is undone by Twisted itself, and so is one during the delivery of
  what came with the headers (twisted#9623). So we pause only when bytes arrive, and again for
  every arrival above the mark.
- A paused socket notices no hang-up, so the idle timer stands still meanwhile: it measures the
  upstream's silence, not the reader's.
- The transport that a body protocol gets cannot abort (twisted#8227), and `loseConnection` on TLS
  waits for a peer that may never say goodbye. `abort_connection` is the one place that reaches
  for the real transport.
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
from mirrord.upstream.deadline import Deadline

CHUNK_BYTES = 256 * 1024
"""What one `read` returns at most."""

HIGH_WATER_BYTES = 512 * 1024
"""Above this nothing more is taken from the connection; what TLS has in hand comes on top."""

LINGER_SECONDS = 0.002
"""For how long a waiting reader is let wait for more, so that a fast upstream costs it few, large reads."""

SILENCE_SECONDS = 5.0
"""How long a short document may pause on its way; after that asking again is the better bet."""

_DISCARD_BYTES = 64 * 1024
_DISCARD_SECONDS = 1.0


def abort_connection(transport: Any) -> None:
    """Cut the connection under a response's body, without a goodbye; harmless when it is over."""
    producer = getattr(transport, "_producer", transport)
    if producer is None:
        return
    abort = getattr(producer, "abortConnection", None) or producer.loseConnection
    abort()


class _Buffer(Protocol):
    """Where Twisted delivers a body."""

    transport: Any = None

    def __init__(
        self,
        clock: IReactorTime,
        idle_seconds: float,
        received: Callable[[int], None],
        progressed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._received = received
        self._progressed = progressed
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._is_paused = False
        self._end: UpstreamError | None = None
        self._has_ended = False
        self._waiter: Deferred[None] | None = None
        self._linger: IDelayedCall | None = None
        self._alarm: IDelayedCall | None = clock.callLater(idle_seconds, self._went_silent)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came in; past the high water no more are taken until someone reads."""
        if self._has_ended:
            return
        self._received(len(data))
        self._progressed()
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered >= HIGH_WATER_BYTES:
            self._pause()
        elif self._alarm is not None:
            self._alarm.reset(self._idle_seconds)
        if self._waiter is not None:
            self._rouse()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body has ended, well or not."""
        if reason.check(ResponseDone, PotentialDataLoss):
            self._finish(None)
        else:
            self._finish(UpstreamUnreachable("the upstream broke off in the middle of a body"))

    async def read(self) -> bytes:
        """What is there, b"" at the end; waits only when there is nothing."""
        if not self._buffered and not self._has_ended:
            self._waiter = Deferred()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._take()
        if not chunk and self._end is not None:
            raise self._end
        return chunk

    def abort(self) -> None:
        """End here and now."""
        if not self._has_ended:
            self._chunks.clear()
            self._buffered = 0
            self._finish(UpstreamUnreachable("the transfer was aborted"))
            abort_connection(self.transport)

    def _take(self) -> bytes:
        """Up to a chunk from the front of the buffer."""
        taken: list[bytes] = []
        room = CHUNK_BYTES
        while self._chunks and room:
            piece = self._chunks.popleft()
            if len(piece) > room:
                self._chunks.appendleft(piece[room:])
                piece = piece[:room]
            taken.append(piece)
            room -= len(piece)
        self._buffered -= CHUNK_BYTES - room
        if self._is_paused and self._buffered <= HIGH_WATER_BYTES - CHUNK_BYTES:
            self._resume()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _rouse(self) -> None:
        """Wake the reader: at once for a full chunk, else a little later for what has come by then."""
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
        self._silence_alarm()
        self.transport.pauseProducing()

    def _resume(self) -> None:
        self._is_paused = False
        if not self._has_ended:
            self._alarm = self._clock.callLater(self._idle_seconds, self._went_silent)
            self.transport.resumeProducing()

    def _went_silent(self) -> None:
        self._alarm = None
        self._finish(UpstreamTimeout(f"the upstream sent nothing for {self._idle_seconds:g} s"))
        abort_connection(self.transport)

    def _silence_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _finish(self, end: UpstreamError | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._end = end
        self._silence_alarm()
        self._wake()


@attrs.define(eq=False)
class UpstreamBlobBody:
    """The bytes of an answer, and where in the blob they stand; `mirrored/ports.py` says what it promises.

    `expected` is how many bytes it has to have, as far as the answer tells.
    """

    offset: int
    size: int | None
    validator: str | None
    _expected: int | None
    _buffer: _Buffer
    _taken: int = attrs.field(default=0, init=False)

    async def read(self) -> bytes:
        """The next bytes, 256 KiB at most; b"" after the last.

        Raises:
            UpstreamTimeout: Nothing came for `idle_timeout`.
            UpstreamUnreachable: It broke off, or ended before its own length.
        """
        chunk = await self._buffer.read()
        self._taken += len(chunk)
        if not chunk and self._expected is not None and self._taken < self._expected:
            raise UpstreamUnreachable(f"the upstream ended after {self._taken} of {self._expected} bytes")
        return chunk

    def abort(self) -> None:
        """Close the connection; may be called at any time, also after the end."""
        self._buffer.abort()


@attrs.frozen
class BodyReader:
    """Begins to read the bodies of one upstream's answers. `received` is told of every arrival, in bytes."""

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
        """The body of a response whose first byte stands at `offset` of the whole.

        `progressed` is called when bytes of it have come: these were wanted, unlike an error's page.
        """
        expected = None if response.length is UNKNOWN_LENGTH else int(response.length)
        buffer = _Buffer(self._clock, self._idle_seconds, self._received, progressed)
        body = UpstreamBlobBody(offset, size, validator, expected, buffer)
        response.deliverBody(buffer)
        return body

    async def read_all(self, response: IResponse, max_bytes: int, deadline: Deadline) -> bytes:
        """A whole body of `max_bytes` at most.

        Raises:
            UpstreamError: It is longer, it broke off, it paused for long, or it was not there in time.
        """
        body = self.open(response)
        chunks: list[bytes] = []
        room = max_bytes
        try:
            while chunk := await deadline.within(SILENCE_SECONDS).wait(body.read(), "the rest of an answer"):
                room -= len(chunk)
                if room < 0:
                    raise UpstreamRefused(
                        f"the upstream sent more than {max_bytes} bytes where that is the limit"
                    )
                chunks.append(chunk)
        finally:
            body.abort()
        return b"".join(chunks)

    async def discard(self, response: IResponse, deadline: Deadline) -> None:
        """Read a short body that nobody wants, so that its connection serves again; cut a long one."""
        try:
            await self.read_all(response, _DISCARD_BYTES, deadline.within(_DISCARD_SECONDS))
        except UpstreamError:
            return
