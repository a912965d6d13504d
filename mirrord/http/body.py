"""Body: what a client sends after its head, read by whoever answers at the pace of the disk.

Twisted collects a body first, in a file of /tmp, and shows the request afterwards: whoever may send
one could fill the disk, and a blob would be written twice. Here a request with a body is answered from
the moment its head is in: its route, its sender's rights and all limits are judged before a byte of the
body is wanted, and then the bytes are read as they come.

They are pulled, not pushed: `read` gives what has arrived since the last call. So the use case is one
loop, and there is no state machine of a sink that begins, is written to, pauses and ends. Three things
follow from the first `read`, and from nothing else:

- the client is told `100 Continue`, if it waits for that;
- the connection is read from: until then it is paused, so a body that is refused is never buffered;
- the client is expected to send: silence, or a trickle, is counted against it.

While a chunk is on its way to the disk more arrives, and is given as one: the faster the client, the
larger the chunks, and no timer is needed to collect them. When too much waits, the connection is paused,
and TCP tells the client.
"""

from collections import deque
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred

CHUNK_BYTES = 256 * 1024
"""The most that is given at once, unless more came at once; and that is read at once of a body."""

WAITING_BYTES = 512 * 1024
"""So much waits for a reader; then the connection is paused."""

LEAST_BYTES = 16 * 1024
"""What has to come in each period of patience: no uplink is slower, only somebody who holds a place."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@attrs.define(eq=False)
class RequestBodyStream:
    """The body of one request; `length` is None where only its end will tell.

    It belongs to the request that is being read, so there is one a connection. `_connection` is the
    channel: it writes, and stops or goes on reading. `_is_withheld` if the client waits for
    `100 Continue`.
    """

    _connection: Any
    length: int | None
    _is_withheld: bool

    is_whole: bool = attrs.field(default=False, init=False)
    received: int = attrs.field(default=0, init=False)
    _waiting_bytes: int = attrs.field(default=0, init=False)
    _chunks: deque[bytes] = attrs.field(factory=deque, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)
    _reader: Deferred[None] | None = attrs.field(default=None, init=False)
    _is_paused: bool = attrs.field(default=False, init=False)
    _is_wanted: bool = attrs.field(default=False, init=False)

    @property
    def is_expected(self) -> bool:
        """Whether it is the client's turn: somebody waits for more."""
        return self._reader is not None

    def hold(self) -> None:
        """Read nothing from the connection until somebody wants it."""
        self._is_paused = True
        self._connection.pause_reading()

    async def read(self) -> bytes:
        """The next bytes, CHUNK_BYTES at most as a rule; b"" after the last.

        What arrived before a body was cut is given before the error is raised.

        Raises:
            CancelledError: The client is gone.
            RequestTimeout: It sends nothing, or too little.
        """
        self._want()
        if not self._chunks and not self.is_whole and self._error is None:
            self._reader = Deferred()
            await self._reader
        if self._chunks:
            return self._take()
        if self._error is not None:
            raise self._error
        return b""

    def arrived(self, chunk: bytes) -> None:
        """The client has sent some."""
        self.received += len(chunk)
        self._waiting_bytes += len(chunk)
        self._chunks.append(chunk)
        if self._waiting_bytes >= WAITING_BYTES:
            self.hold()
        self._wake()

    def ended(self) -> None:
        """All of it has arrived."""
        self.is_whole = True
        self._wake()

    def cut(self, error: Exception | None = None) -> None:
        """Nothing more will come; `error` says why, if not for the client's leaving."""
        self._error = error or CancelledError()
        self._wake()

    def _want(self) -> None:
        if not self._is_wanted:
            self._is_wanted = True
            if self._is_withheld and not self.received:
                self._connection.write(_CONTINUE)
        if self._is_paused and self._waiting_bytes < WAITING_BYTES:
            self._is_paused = False
            self._connection.resume_reading()

    def _take(self) -> bytes:
        """Join what has waited longest, and cut nothing: a body is copied once, not three times."""
        taken = [self._chunks.popleft()]
        size = len(taken[0])
        while self._chunks and size + len(self._chunks[0]) <= CHUNK_BYTES:
            taken.append(self._chunks.popleft())
            size += len(taken[-1])
        self._waiting_bytes -= size
        return b"".join(taken)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)


@attrs.frozen
class NoBody:
    """What a request has that has no body."""

    length: int = 0

    async def read(self) -> bytes:
        """Nothing."""
        return b""
