"""RequestBodyStream: the body of a request, read at the pace of the disk that it is written to.

Twisted first collects a body, in a file in /tmp, and only then processes the request: any client could fill
the disk, and a blob would be written twice. Here a request is processed as soon as its head is complete: the
route, the client's rights and all limits are checked before the body, and then its bytes are read as they
arrive.

They are pulled, not pushed: `read` returns what has arrived since the last call. So a use case is one loop,
instead of the state machine of a sink that is opened, written to, paused and closed. Three things happen at
the first `read`, and not before:

- `100 Continue` is sent, if the client waits for it;
- the connection is read from: until then it is paused, so the body of a rejected request is never buffered;
- the client is expected to send: silence, or a trickle, counts against it.

While a chunk is written to the disk, more arrives and is returned as one: the faster the client, the larger
the chunks, without a timer to collect them. When too much is buffered, the connection is paused, and TCP
slows the client down.
"""

from collections import deque
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred

CHUNK_BYTES = 256 * 1024
"""The most that `read` returns, unless more arrived at once; and the most that is received at once."""

BUFFERED_BYTES = 512 * 1024
"""When this much is buffered, the connection is paused."""

MIN_BYTES = 16 * 1024
"""The minimum to receive in each `upload_seconds`: no uplink is slower, only a client that blocks a slot."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@attrs.define(eq=False)
class RequestBodyStream:
    """The body of one request; `length` is None if it is chunked.

    It belongs to the request that is being received, so there is one per connection. `_connection` is the
    channel, which writes, and pauses and resumes reading. `_is_withheld` is whether the client waits for
    `100 Continue`.
    """

    _connection: Any
    length: int | None
    _is_withheld: bool

    is_whole: bool = attrs.field(default=False, init=False)
    received: int = attrs.field(default=0, init=False)
    _buffered_bytes: int = attrs.field(default=0, init=False)
    _chunks: deque[bytes] = attrs.field(factory=deque, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)
    _reader: Deferred[None] | None = attrs.field(default=None, init=False)
    _is_paused: bool = attrs.field(default=False, init=False)
    _has_reader: bool = attrs.field(default=False, init=False)

    @property
    def is_expected(self) -> bool:
        """Whether a reader waits for the client to send."""
        return self._reader is not None

    def pause(self) -> None:
        """Stop reading from the connection until `read` is called."""
        self._is_paused = True
        self._connection.pause_reading()

    async def read(self) -> bytes:
        """Return the next bytes, usually at most CHUNK_BYTES; b"" after the last.

        What arrived before the body failed is returned before the error is raised.

        Raises:
            CancelledError: The client has disconnected.
            RequestTimeout: It sends nothing, or too little.
        """
        self._resume()
        if not self._chunks and not self.is_whole and self._error is None:
            self._reader = Deferred()
            await self._reader
        if self._chunks:
            return self._next_chunk()
        if self._error is not None:
            raise self._error
        return b""

    def feed(self, chunk: bytes) -> None:
        """Buffer what the client has sent."""
        self.received += len(chunk)
        self._buffered_bytes += len(chunk)
        self._chunks.append(chunk)
        if self._buffered_bytes >= BUFFERED_BYTES:
            self.pause()
        self._wake()

    def finish(self) -> None:
        """Note that the body is complete."""
        self.is_whole = True
        self._wake()

    def fail(self, error: Exception | None = None) -> None:
        """Fail the reader once it has read what arrived; without `error`, the client has disconnected."""
        self._error = error or CancelledError()
        self._wake()

    def _resume(self) -> None:
        if not self._has_reader:
            self._has_reader = True
            if self._is_withheld and not self.received:
                self._connection.write(_CONTINUE)
        if self._is_paused and self._buffered_bytes < BUFFERED_BYTES:
            self._is_paused = False
            self._connection.resume_reading()

    def _next_chunk(self) -> bytes:
        """Join the oldest pieces without splitting any: a body is copied once, not three times."""
        pieces = [self._chunks.popleft()]
        size = len(pieces[0])
        while self._chunks and size + len(self._chunks[0]) <= CHUNK_BYTES:
            pieces.append(self._chunks.popleft())
            size += len(pieces[-1])
        self._buffered_bytes -= size
        return b"".join(pieces)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)


@attrs.frozen
class NoBody:
    """The body of a request without one."""

    length: int = 0

    async def read(self) -> bytes:
        """Return no bytes."""
        return b""
