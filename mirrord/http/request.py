"""Request: what a client asked, and the way its answer takes.

Twisted's own `server.Request` brings cookies, forms, sessions, resource traversal and pages of
HTML; a registry has no use for any of them. What is kept of `http.Request` is what `HTTPChannel`
counts on: the headers, the order of pipelined requests, producers, and word of a lost connection.
"""

import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from mirrord.http.body import RequestBodyStream
from mirrord.http.forwarded import TrustedProxies, address_of
from mirrord.http.response import API_VERSION, Response
from mirrord.observe.access_log import CLIENT_LEFT, AccessRecord
from mirrord.oci.errors import SizeInvalid, Unsupported

READING = (b"GET", b"HEAD")
"""The methods that a mirror answers."""

ALLOW = (b"Allow", b"GET, HEAD")

_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-fvV:.%\w~-]+\])(?::[0-9]*)?", re.ASCII)
"""`uri-host [ ":" port ]` (RFC 9110, section 7.2); it may be empty."""

_NOT_ADDRESSED = Response.of_error(
    Unsupported("one Host header is needed, with a host in it"), API_VERSION, status=400
)


@provider(INonQueuedRequestFactory)
class MirrorRequest(Request):
    """A request, once its headers are in.

    Its site answers it: at once by `respond`, or by `begin`, writes of its own, and then `finish` or
    `break_off`. `waiting`, while it is set, is cancelled when the client leaves. `ended`, if it is set,
    is called once, when all of the answer is written or nothing more of it will be: with the seconds
    since the request came. `client_address` is who asks, `received_at` when, by the reactor's clock.

    A request with a `body` is answered from when its head is in, by whoever may want to read it; one
    whose body is not read to its end is the last of its connection.
    """

    channel: Any
    uri: bytes
    body: RequestBodyStream | None = None
    waiting: Deferred[None] | None = None
    ended: Callable[[float], None] | None = None
    client_address = ""
    received_at: float | None = None
    is_cut = False

    def __init__(self, channel: Any) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)

    @property
    def is_head(self) -> bool:
        """Whether headers alone are asked for."""
        return bool(self.method == b"HEAD")

    @property
    def scheme(self) -> str:
        """`https` where the client speaks TLS, with us or with a proxy that we trust; else `http`."""
        own = "https" if self.isSecure() else "http"
        return self._proxies.scheme_of(self._peer, own, self._said(b"X-Forwarded-Proto"))

    @property
    def is_addressed(self) -> bool:
        """Whether it says once, and readably, which host it is for; HTTP/1.0 need not say it."""
        hosts = self.requestHeaders.getRawHeaders(b"Host", [])
        if not hosts:
            return bool(self.clientproto != b"HTTP/1.1")
        return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None

    def header(self, name: bytes) -> bytes | None:
        """All values of a header, joined as one (RFC 9110, section 5.3); None without any."""
        values = self.requestHeaders.getRawHeaders(name)
        return b",".join(values) if values else None

    def gotLength(self, length: int | None) -> None:
        """The head is in. What is read only has no use for a body, and does not get it."""
        if length == 0:
            return
        if self.method in READING:
            self.channel.refuse(Response.of_error(SizeInvalid("no body is wanted"), API_VERSION, status=413))
            return
        is_withheld = (self.header(b"Expect") or b"").lower() == b"100-continue"
        self.body = RequestBodyStream(self.channel, length, is_withheld and self.clientproto == b"HTTP/1.1")
        self.body.hold()
        self._begin()

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body is here."""
        if self.body is not None:
            self.body.arrived(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of the request is here."""
        if self.body is None:
            self._begin()
        else:
            self.body.ended()

    def respond(self, answer: Response) -> None:
        """Give the whole answer; a HEAD is given its headers."""
        if self.body is not None and not self.body.is_whole:
            self.code, self.startedWriting = answer.status, 1
            self.channel.refuse(answer)
            return
        body = b"" if self.is_head else answer.body
        self._write_head(answer, body)
        self.finish()

    def begin(self, answer: Response) -> None:
        """Send the headers; as many bytes as they promise are to follow."""
        self._write_head(answer, b"")

    def break_off(self) -> None:
        """End short of the promised length: the client sees a FIN, and knows that it has not all.

        Not a reset: containerd resumes after an unexpected end alone (reference/protocol.md, 1.8).
        """
        if self.channel is not None:
            self.unregisterProducer()
            self.channel.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The client left: nobody waits for the answer any more."""
        site, self.is_cut = self.channel.site, not self.finished
        super().connectionLost(reason)
        if self.body is not None:
            self.body.cut()
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.cancel()
        if self.is_cut and self.received_at is not None:
            site.log(self)

    def access(self) -> AccessRecord:
        """What the access log says of it, once it has ended."""
        return AccessRecord(
            client=self.client_address,
            at=self.received_at or 0.0,
            method=self.method.decode("latin-1"),
            target=self.uri.decode("latin-1"),
            version=self.clientproto.decode("latin-1"),
            status=self.code if self.startedWriting else CLIENT_LEFT,
            sent_bytes=self.sentLength,
            referrer=self._said(b"Referer"),
            agent=self._said(b"User-Agent"),
        )

    def _begin(self) -> None:
        """Have it answered; one that is not for one host is refused (RFC 9112, section 3.2)."""
        self.received_at = self.channel.site.now()
        self.client_address = self._proxies.client_of(self._peer, self._said(b"X-Forwarded-For"))
        if self.is_addressed:
            self.channel.site.respond(self)
        else:
            self.channel.persistent = False
            self.respond(_NOT_ADDRESSED)

    @property
    def _proxies(self) -> TrustedProxies:
        proxies: TrustedProxies = self.channel.site.proxies
        return proxies

    @property
    def _peer(self) -> str:
        return address_of(self.channel.getPeer())

    def _said(self, name: bytes) -> str:
        return (self.header(name) or b"").decode("latin-1")

    def _write_head(self, answer: Response, body: bytes) -> None:
        self.code = answer.status
        self.startedWriting = 1
        self.sentLength = len(body)
        more = [(b"Date", self.channel.site.date())]
        if not self.channel.persistent:
            more.append((b"Connection", b"close"))
        self.channel.write(answer.head(self.clientproto, *more) + body)


def not_allowed() -> Response:
    """That a mirror takes no pushes."""
    error = Unsupported("a mirror is read only: only GET and HEAD are answered")
    return Response.of_error(error, API_VERSION, ALLOW)


def http_date(seconds: float) -> bytes:
    """A moment as HTTP writes it (RFC 9110, section 5.6.7)."""
    return formatdate(seconds, usegmt=True).encode("ascii")
