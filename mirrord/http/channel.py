"""MirrorChannel: one client's connection, protected against clients that misbehave.

Twisted's channel trusts its peer in four ways, each of which was tried and found open: headers that arrive
byte by byte never time out, neither does a client that stops reading, nor a TLS peer that does not send
close_notify, and a body is spooled to /tmp before anything has seen the request. Here every phase of a
connection is bounded:

    idle ──first byte──▶ reading a head ──▶ (reading a body) ──▶ responding ──▶ idle …
     120 s                20 s in all        16 KiB a minute      stall_timeout without progress
       └───────────────────────┴────────────────────┴──────────────────┴──▶ closing: 10 s without progress

A PROXY header and a TLS handshake, which come before HTTP, have the time of a head as well. The phases have
no timers of their own, which would cost every request two: the site checks its connections once a second.

An early response (`refuse`) is sent before all of the request was read. The client may be in the middle of
sending, and closing would then cause a reset that discards the response on its way; so we close our half,
and read and drop what still arrives, within limits.
"""

import string
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from mirrord.http.body import CHUNK_BYTES, MIN_BYTES, RequestBodyStream
from mirrord.http.head_budget import LARGE_BYTES, head_memory
from mirrord.http.response import API_VERSION, CONTENT_SECURITY_POLICY, NO_SNIFFING, Response
from mirrord.oci.errors import RequestTimeout, SizeInvalid, Unsupported

MAX_HEAD_BYTES = 64 * 1024
"""podman requests 1,024 ranges at once, which is 20 KB; tokens with many scopes are 16 KB."""

MAX_DROPPED_BYTES = 4 * 1024 * 1024
"""The most that is read and dropped after an early response."""

LAST_REQUEST_SECONDS = 1.0
"""How long a drain waits for the first request of a connection."""

_MAX_LENGTH_LINE = 40
"""The longest Content-Length header; for thousands of digits int() would raise, and Twisted log it."""

_FIRST_BYTES = frozenset(b"!#$%&'*+-.^_`|~\r\n") | frozenset(
    string.ascii_letters.encode() + string.digits.encode()
)
"""The first bytes of a request. podman tries TLS first, and would wait for the rest of its line."""

_MALFORMED = Response.of_error(Unsupported("not an HTTP/1.1 request"), API_VERSION, status=400)
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
    _has_requested = False
    _large_head_bytes = 0
    _acknowledged = 0
    _dropped = 0
    _is_refused = False
    _is_closing = False

    @property
    def _is_idle(self) -> bool:
        return not (self._handlingRequest or self._is_refused or self.requests or self._buffer)

    def connectionMade(self) -> None:
        """Admit the connection, or close it."""
        self._made_at = self._since = self.site.now()
        super().connectionMade()
        if not self.site.admit(self):
            self.transport.abortConnection()

    def peer_identified(self) -> None:
        """Count the connection as that of the client that its PROXY header names."""
        self.site.release(self)
        if not self.site.admit(self):
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Release the connection, which is lost."""
        self.site.release(self)
        super().connectionLost(reason)
        self.site.heads.resize(self, 0)

    def dataReceived(self, data: bytes) -> None:
        """Handle received bytes; an incomplete head starts the clock."""
        if data and self._is_idle and data[0] not in _FIRST_BYTES:
            self.refuse(_MALFORMED)
            return
        super().dataReceived(data)
        if self._head_since is None and not self._handlingRequest and (self.requests or self._buffer):
            self._head_since = self.site.now()
        self.site.heads.resize(self, self._head_bytes())

    def _head_bytes(self) -> int:
        """Return the memory of heads: of one that arrives, a large one, and those that are not parsed yet."""
        size = len(self._buffer)
        if self._handlingRequest:
            return size + self._large_head_bytes + sum(map(len, self._dataBuffer))
        if not self.requests:
            return size
        if self._body is not None:
            return size + self._large_head_bytes
        return size + head_memory(self._receivedHeaderSize, self._receivedHeaderCount)

    def abort_reading(self) -> None:
        """Close the connection and discard what has arrived: there is no room for the rest."""
        self.transport.abortConnection()

    def allHeadersReceived(self) -> None:
        """Handle a complete head. `100 Continue` is sent when the body is first read (body.py)."""
        self._head_since = None
        self._since, self._received = self.site.now(), 0
        request = self.requests[-1]
        request.method, request.uri, request.clientproto = self._command, self._path, self._version
        self._has_requested = True
        memory = head_memory(self._receivedHeaderSize, self._receivedHeaderCount)
        self._large_head_bytes = memory if memory > LARGE_BYTES else 0
        self.site.request_began(self)
        self.persistent = self.checkPersistence(request, self._version) and not self.site.is_draining
        request.gotLength(self.length)

    def headerReceived(self, line: bytes) -> bool:
        """Handle one header; a Content-Length with too many digits is malformed."""
        if len(line) > _MAX_LENGTH_LINE and line[:15].lower() == b"content-length:":
            self._respondToBadRequestAndDisconnect()
            return False
        is_valid: bool = super().headerReceived(line)
        return is_valid

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Return whether another request may follow: HTTP/1.1 without `close` (RFC 9112, section 9.3)."""
        options = (request.header(b"Connection") or b"").lower().split(b",")
        return version == b"HTTP/1.1" and b"close" not in [option.strip() for option in options]

    def requestDone(self, request: Any) -> None:
        """End a request; the next one is parsed when the client has read the response.

        Twisted would parse it now: 64 KiB of pipelined requests could queue gigabytes of responses.
        """
        self._since = self.site.now()
        if request.body is not None and not request.body.is_whole:
            self.requests.remove(request)
            self._close_unread()
            return
        self.site.request_ended(self)
        if self._large_head_bytes:
            self._large_head_bytes = 0
            self.site.heads.resize(self, self._head_bytes())
        self.paused = self._waitingForTransport
        super().requestDone(request)
        if self.paused:
            self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """Continue: the transport has sent what was written."""
        self.paused = False
        super().resumeProducing()
        if self._buffer and not self._handlingRequest:
            self.dataReceived(b"")

    def lineLengthExceeded(self, line: bytes) -> None:
        """Reject a line that is longer than all headers may be."""
        self.refuse(_TOO_LARGE if self.requests else _TOO_LONG)

    def _respondToBadRequestAndDisconnect(self) -> None:
        is_too_large = (
            self._receivedHeaderSize > MAX_HEAD_BYTES or self._receivedHeaderCount > self.maxHeaders
        )
        self.refuse(_TOO_LARGE if is_too_large else _MALFORMED)

    def pause_reading(self) -> None:
        """Stop reading; TCP then slows the client down."""
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """Read again, and more at once than of heads: each call of the reactor has its cost."""
        self.transport.bufferSize = CHUNK_BYTES
        self._networkProducer.resumeProducing()

    def refuse(self, response: Response) -> None:
        """Respond before the request was read to its end, and make it the last of the connection."""
        if self._is_refused:
            return
        is_head = bool(self.requests) and self.requests[-1].is_head
        head = response.head(b"HTTP/1.1", (b"Date", self.site.date()), (b"Connection", b"close"))
        self.write(head if is_head else head + response.body)
        self._close_unread()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Write the head of a response that was not made by `MirrorRequest.respond` or `begin`."""
        body = self._body
        if body is not None and not body.is_whole:
            self.persistent = False
        headers.setRawHeaders(b"Date", [self.site.date()])
        for name, value in (NO_SNIFFING, (b"Content-Security-Policy", CONTENT_SECURITY_POLICY)):
            if not headers.hasHeader(name):
                headers.setRawHeaders(name, [value])
        if not self.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])
        super().writeHeaders(version, code, reason, headers)

    def _close_unread(self) -> None:
        """Close after responding to a request that was not read to its end; drop what still arrives."""
        self.site.request_ended(self)
        self._is_refused = True
        self.persistent = False
        self.setRawMode()
        self.resume_reading()
        if isinstance(self.transport, tcp.Connection):
            self._start_closing()
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
        else:
            self.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """Handle the body, or keep pipelined requests for later; after an early response drop everything."""
        if not self._is_refused:
            super().rawDataReceived(data)
            return
        self._dropped += len(data)
        if self._dropped > MAX_DROPPED_BYTES:
            self.loseConnection()

    def readConnectionLost(self) -> None:
        """Handle the client's FIN: complete a response that has begun, then close."""
        if self._handlingRequest and self.requests[0].startedWriting:
            self.persistent = False
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: our half was closed after an early response."""

    def drain(self) -> None:
        """Close after the current request.

        A connection without any request yet is kept for a moment: a client retries by itself when a
        connection is closed that it has used before, but not when a new one is.
        """
        if self._handlingRequest or self._body is not None:
            self.persistent = False
        elif self._has_requested and self._is_idle:
            self.loseConnection()
        else:
            self._since = self.site.now()

    def abort(self) -> None:
        """Close, also in the middle of a response, whose coroutine is cancelled."""
        request = self.requests[0] if self._handlingRequest else None
        if request is not None and request.waiting is not None:
            request.waiting.cancel()
        elif request is not None:
            request.abort()
        if not self._is_closing:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close after sending what was written."""
        self._start_closing()
        super().loseConnection()

    @property
    def is_sending(self) -> bool:
        """Whether the client has not acknowledged all of the last response."""
        return bool(self.transport.progress()[1])

    def check(self, now: float) -> None:
        """Close what has taken too long; called once a second."""
        if not self.transport.is_opening:
            self._check_http(now)
        elif now - self._made_at >= self.site.limits.head_seconds:
            self.transport.abortConnection()

    def _check_http(self, now: float) -> None:
        limits = self.site.limits
        acknowledged, is_behind = self.transport.progress()
        is_responding = self._handlingRequest and not self._is_closing and not is_behind
        if acknowledged != self._acknowledged or is_responding:
            self._acknowledged, self._since = acknowledged, now
        quiet = now - self._since
        if is_behind or self._is_closing:
            if quiet >= (limits.stall_seconds if is_behind else limits.closing_seconds):
                self.transport.abortConnection()
        elif not self._handlingRequest:
            self._check_request(now, quiet)

    def _check_request(self, now: float, quiet: float) -> None:
        """Check a client that is expected to send."""
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
        """The body that is being received, if any."""
        return self.requests[-1].body if self.requests else None

    def _check_body(self, body: RequestBodyStream, now: float) -> None:
        """Fail the body of a client that sends too little; time that it waits for us does not count."""
        if not body.is_expected or body.received - self._received >= MIN_BYTES:
            self._received, self._since = body.received, now
        elif now - self._since >= self.site.limits.upload_seconds:
            body.fail(RequestTimeout("the rest of the body did not arrive"))

    def _start_closing(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._since = self.site.now()
