"""MirrorChannel: one client's connection, and what it may not do to us.

Twisted's channel trusts its peer in four ways that were each tried and found open: headers that
drip in never time out, a reader that stops never does either, nor does a TLS peer that does not
say goodbye, and a body is spooled to /tmp before anybody has looked at the request. Here every
phase of a connection has an end:

    idle ──first byte──▶ reading a head ──▶ (reading a body) ──▶ answering ──▶ idle …
     120 s                20 s in all        16 KiB a minute      stall_timeout without progress
       └───────────────────────┴────────────────────┴──────────────────┴──▶ closing: 10 s without progress

What stands before HTTP, a PROXY header and the handshake of TLS, has the time of a head as well. The
phases have no timers of their own, which would cost every request two: the site looks at its
connections once a second (`check`).

A refusal (`refuse`) is an answer that comes before all of the request was read. The client may be
in the middle of sending, and a close would then be a reset that eats the answer on its way; so we
close our half, read on and drop what comes, within limits.
"""

import string
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from mirrord.http.body import CHUNK_BYTES, LEAST_BYTES, RequestBodyStream
from mirrord.http.response import API_VERSION, Response
from mirrord.oci.errors import RequestTimeout, SizeInvalid, Unsupported

MAX_HEAD_BYTES = 64 * 1024
"""podman asks for 1,024 ranges at once, which is 20 KB; tokens with many scopes are 16 KB."""

MAX_DRAINED_BYTES = 4 * 1024 * 1024

LAST_REQUEST_SECONDS = 1.0
"""How long a drain waits for the first request of a connection."""

_FIRST_BYTES = frozenset(b"!#$%&'*+-.^_`|~\r\n") | frozenset(
    string.ascii_letters.encode() + string.digits.encode()
)
"""What a request can begin with. podman tries TLS first, and would wait for the rest of its line."""

_MALFORMED = Response.of_error(Unsupported("this is not a request of HTTP/1.1"), API_VERSION, status=400)
_TOO_LARGE = Response.of_error(SizeInvalid("the headers are too large"), API_VERSION, status=431)
_TOO_LONG = Response.of_error(SizeInvalid("the request line is too long"), API_VERSION, status=414)


@implementer(IHalfCloseableProtocol)
class MirrorChannel(HTTPChannel):
    """One client's connection."""

    MAX_LENGTH = MAX_HEAD_BYTES
    totalHeadersSize = MAX_HEAD_BYTES

    site: Any
    transport: Any
    _networkProducer: Any
    _made_at = 0.0
    _since = 0.0
    _head_since: float | None = None
    _received = 0
    _has_asked = False
    _taken = 0
    _drained = 0
    _is_refused = False
    _is_closing = False

    @property
    def _is_idle(self) -> bool:
        return not (self._handlingRequest or self._is_refused or self.requests or self._buffer)

    def connectionMade(self) -> None:
        """Someone is there."""
        self._made_at = self._since = self.site.now()
        super().connectionMade()
        if not self.site.admit(self):
            self.transport.abortConnection()

    def introduced(self) -> None:
        """A PROXY header has named the client: it is one of its own address from now on."""
        self.site.forget(self)
        if not self.site.admit(self):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """They are gone."""
        self.site.forget(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came in; a head that is not complete has to become so in time."""
        if data and self._is_idle and data[0] not in _FIRST_BYTES:
            self.refuse(_MALFORMED)
            return
        super().dataReceived(data)
        if self._head_since is None and not self._handlingRequest and (self.requests or self._buffer):
            self._head_since = self.site.now()

    def allHeadersReceived(self) -> None:
        """A head is complete. Whoever wants its body tells the client to go on and send it (body.py)."""
        self._head_since = None
        self._since, self._received = self.site.now(), 0
        request = self.requests[-1]
        request.method, request.uri, request.clientproto = self._command, self._path, self._version
        self._has_asked = True
        self.persistent = self.checkPersistence(request, self._version) and not self.site.is_draining
        request.gotLength(self.length)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Whether another request may follow: HTTP/1.1, and nobody said close (RFC 9112, section 9.3)."""
        options = (request.header(b"Connection") or b"").lower().split(b",")
        return version == b"HTTP/1.1" and b"close" not in [option.strip() for option in options]

    def requestDone(self, request: Any) -> None:
        """An answer is written; the next request waits until the client has taken it.

        Twisted would parse on: 64 KiB of pipelined requests could have gigabytes of answers waiting.
        """
        self._since = self.site.now()
        if request.body is not None and not request.body.is_whole:
            self.requests.remove(request)
            self._close_unread()
            return
        self.paused = self._waitingForTransport
        super().requestDone(request)
        if self.paused:
            self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """The client has taken what was written."""
        self.paused = False
        super().resumeProducing()
        if self._buffer and not self._handlingRequest:
            self.dataReceived(b"")

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line is longer than all headers may be."""
        self.refuse(_TOO_LARGE if self.requests else _TOO_LONG)

    def _respondToBadRequestAndDisconnect(self) -> None:
        is_too_much = self._receivedHeaderSize > MAX_HEAD_BYTES or self._receivedHeaderCount > self.maxHeaders
        self.refuse(_TOO_LARGE if is_too_much else _MALFORMED)

    def pause_reading(self) -> None:
        """Leave it to TCP to keep what the client sends."""
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """Take what the client sends: of a body more at once than of heads, each turn has its price."""
        self.transport.bufferSize = CHUNK_BYTES
        self._networkProducer.resumeProducing()

    def refuse(self, answer: Response) -> None:
        """Answer a request that is not read to its end, and take no other on this connection."""
        if self._is_refused:
            return
        is_head = bool(self.requests) and self.requests[-1].is_head
        head = answer.head(b"HTTP/1.1", (b"Date", self.site.date()), (b"Connection", b"close"))
        self.write(head if is_head else head + answer.body)
        self._close_unread()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Write the head of a response that a resource of Twisted's has made."""
        body = self._body
        if body is not None and not body.is_whole:
            self.persistent = False
        headers.setRawHeaders(b"Date", [self.site.date()])
        if not self.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])
        super().writeHeaders(version, code, reason, headers)

    def _close_unread(self) -> None:
        """Close after a response to a request that was not read to its end: drop what still arrives."""
        self._is_refused = True
        self.persistent = False
        self.setRawMode()
        self.resume_reading()
        if isinstance(self.transport, tcp.Connection):
            self._begin_closing()
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            self.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """Pipelined requests wait for their turn; after a refusal all is dropped."""
        if not self._is_refused:
            super().rawDataReceived(data)
            return
        self._drained += len(data)
        if self._drained > MAX_DRAINED_BYTES:
            self.loseConnection()

    def readConnectionLost(self) -> None:
        """The client has no more to say; what it is being told it may hear to the end."""
        if self._handlingRequest and self.requests[0].startedWriting:
            self.persistent = False
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """We have no more to say: a refusal is out."""

    def drain(self) -> None:
        """Answer what is asked, and then close.

        Whoever has not asked anything yet is given a moment: a client asks again by itself when a
        connection that it had used before is closed, but not when a new one is.
        """
        if self._handlingRequest or self._body is not None:
            self.persistent = False
        elif self._has_asked and self._is_idle:
            self.loseConnection()
        else:
            self._since = self.site.now()

    def break_off(self) -> None:
        """Close, in the midst of an answer too: whoever makes it is cancelled, and the rest is not sent."""
        request = self.requests[0] if self._handlingRequest else None
        if request is not None and request.waiting is not None:
            request.waiting.cancel()
        elif request is not None:
            request.break_off()
        if not self._is_closing:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close, after what was written has left."""
        self._begin_closing()
        super().loseConnection()

    def check(self, now: float) -> None:
        """End what has taken too long; called once a second."""
        if not self.transport.is_opening:
            self._check_http(now)
        elif now - self._made_at >= self.site.limits.head_seconds:
            self.transport.abortConnection()

    def _check_http(self, now: float) -> None:
        limits = self.site.limits
        taken, is_behind = self.transport.progress()
        is_waiting_for_us = self._handlingRequest and not self._is_closing and not is_behind
        if taken != self._taken or is_waiting_for_us:
            self._taken, self._since = taken, now
        quiet = now - self._since
        if is_behind or self._is_closing:
            if quiet >= (limits.stall_seconds if is_behind else limits.closing_seconds):
                self.transport.abortConnection()
        elif not self._handlingRequest:
            self._check_asking(now, quiet)

    def _check_asking(self, now: float, quiet: float) -> None:
        """It is the client's turn."""
        limits = self.site.limits
        if self._body is not None:
            self._check_body(self._body, now)
        elif self.site.is_draining:
            if quiet >= LAST_REQUEST_SECONDS:
                self.loseConnection()
        elif self._head_since is not None:
            if now - self._head_since >= limits.head_seconds:
                self.loseConnection()
        elif quiet >= limits.idle_seconds:
            self.loseConnection()

    @property
    def _body(self) -> RequestBodyStream | None:
        """The body that is being received."""
        return self.requests[-1].body if self.requests else None

    def _check_body(self, body: RequestBodyStream, now: float) -> None:
        """Let go of a client that does not send, or too little; while we keep it waiting no time passes."""
        if not body.is_expected or body.received - self._received >= LEAST_BYTES:
            self._received, self._since = body.received, now
        elif now - self._since >= self.site.limits.upload_seconds:
            body.cut(RequestTimeout("the rest of the body does not come"))

    def _begin_closing(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._since = self.site.now()
