"""MirrorRequest: one HTTP request, and how a resource of twisted.web responds to it.

It is based on `http.Request`, which knows headers, pipelining, producers and lost connections. Twisted's
`server.Request` would add sessions, forms spooled to /tmp, and tracebacks and errors in HTML. Of what it
adds, resources get their path (`prepath`, `postpath`), the query (`args`) and the URL, and no more.

A resource is rendered when the request head is complete, before any body. It responds in one of two ways:
ours call `respond` or `begin` with a `Response`; any other, such as `static.File`, does as Twisted
documents it: it sets headers and then returns the body or writes it, as a push or pull producer.
"""

import errno
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.urlpath import URLPath
from twisted.web.error import UnsupportedMethod
from twisted.web.http import NO_BODY_CODES, Request, parse_qs
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer, provider

from mirrord.http.body import RequestBodyStream
from mirrord.http.forwarded import TrustedProxies, address_of
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.observe.access_log import CLIENT_LEFT, AccessRecord
from mirrord.oci.errors import RegistryError, SizeInvalid, Unavailable, Unsupported

READING = (b"GET", b"HEAD")
"""The methods that change nothing, and whose requests have no body."""

_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-fvV:.%\w~-]+\])(?::[0-9]*)?", re.ASCII)
"""`uri-host [ ":" port ]` (RFC 9110, section 7.2); it may be empty."""

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
"""The beginning of an absolute request target, and its authority (RFC 9112, section 3.2.2)."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

_INVALID_HOST = Response.of_error(
    Unsupported("exactly one valid Host header is required"), API_VERSION, status=400
)


@provider(INonQueuedRequestFactory)
class MirrorRequest(Request):
    """A request whose head is complete.

    `path` and `query` are the parts of `target`, which is the request target without scheme and host.
    `client_address` is the client's, also behind trusted proxies; `received_at` is in seconds of the
    reactor's clock. `waiting`, if set, is cancelled when the client disconnects. `ended`, if set, is
    called once, when the response is complete or aborted, with the seconds since the request arrived.

    The resource may read the `body`; if it does not read all of it, the connection is closed after the
    response.
    """

    channel: Any = None
    uri: bytes
    target = b""
    query = b""
    prepath: list[bytes]
    postpath: list[bytes]
    body: RequestBodyStream | None = None
    waiting: Deferred[None] | None = None
    ended: Callable[[float], None] | None = None
    client_address = ""
    received_at: float | None = None
    is_aborted = False

    _log = Logger()

    def __init__(self, channel: Any) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)

    @property
    def is_head(self) -> bool:
        """Whether the client wants the headers only."""
        return bool(self.method == b"HEAD")

    @property
    def scheme(self) -> str:
        """`https` if the client speaks TLS with us or with a trusted proxy, else `http`."""
        own = "https" if self.isSecure() else "http"
        proxies: TrustedProxies = self.channel.site.proxies
        return proxies.scheme_of(self._peer, own, self._text(b"X-Forwarded-Proto"))

    @property
    def authority(self) -> bytes:
        """The host and port that the request is for; an absolute target overrides the Host header."""
        absolute = _ABSOLUTE.match(self.uri)
        return absolute[1] if absolute else self.header(b"Host") or b""

    @property
    def has_valid_host(self) -> bool:
        """Whether there is exactly one Host header, and it is valid; HTTP/1.0 requires none."""
        hosts = self.requestHeaders.getRawHeaders(b"Host", [])
        if not hosts:
            return bool(self.clientproto != b"HTTP/1.1")
        return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None

    @cached_property
    def args(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """The query's parameters, decoded."""
        return dict(parse_qs(self.query, keep_blank_values=1))

    def header(self, name: bytes) -> bytes | None:
        """Return all values of a header, joined (RFC 9110, section 5.3); None if there are none."""
        values = self.requestHeaders.getRawHeaders(name)
        return b",".join(values) if values else None

    def prePathURL(self) -> bytes:
        """Return the URL of the resource that is rendered, as the client addresses it."""
        path = b"/".join(quote(segment, safe="").encode("ascii") for segment in self.prepath)
        return b"%b://%b/%b" % (self.scheme.encode("ascii"), self.authority or b"localhost", path)

    def URLPath(self) -> URLPath:
        """Return `prePathURL` as an object."""
        url: URLPath = URLPath.fromBytes(self.prePathURL())
        return url

    def gotLength(self, length: int | None) -> None:
        """Handle a complete head. GET and HEAD must not have a body."""
        if length == 0:
            return
        if self.method in READING:
            error = SizeInvalid("a GET or HEAD request must not have a body")
            self.channel.refuse(Response.of_error(error, API_VERSION, status=413))
            return
        is_withheld = (self.header(b"Expect") or b"").lower() == b"100-continue"
        self.body = RequestBodyStream(self.channel, length, is_withheld and self.clientproto == b"HTTP/1.1")
        self.body.pause()
        self._begin()

    def handleContentChunk(self, data: bytes) -> None:
        """Pass on a piece of the body."""
        if self.body is not None:
            self.body.feed(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Handle the end of the request."""
        if self.body is None:
            self._begin()
        else:
            self.body.finish()

    def render(self, resource: IResource) -> None:
        """Render a resource, and send what it returns; an error becomes a JSON document, never HTML."""
        try:
            body = resource.render(self)
            if body is NOT_DONE_YET:
                return
            if body or not (self.is_head or self.code in NO_BODY_CODES):
                self.setHeader(b"Content-Length", b"%d" % len(body))
            self.write(body)
            self.finish()
        except Exception as error:  # noqa: BLE001 - the last resort, and logged
            self.fail(error)

    def respond(self, response: Response) -> None:
        """Send a complete response, without its body to a HEAD; do nothing if the client has disconnected."""
        if self.channel is None:
            return
        if self.body is not None and not self.body.is_whole:
            self.code, self.startedWriting = response.status, 1
            self.channel.refuse(response)
            return
        body = b"" if self.is_head else response.body
        self._write_head(response, body)
        self.finish()

    def begin(self, response: Response) -> None:
        """Send the head of a response, whose body is then written."""
        if self.body is not None and not self.body.is_whole:
            self.channel.persistent = False
        self._write_head(response, b"")

    def fail(self, error: Exception, *headers: Header) -> None:
        """Respond with the document of an error, or abort a response that has begun.

        Only a RegistryError is described to the client; any other is logged.
        """
        if self.channel is None:
            return
        public = self._public(error)
        if self.startedWriting:
            self.abort()
            return
        self.respond(Response.of_error(public, *headers))

    def abort(self) -> None:
        """Close the connection before the response is complete.

        By a FIN: containerd resumes after an unexpected EOF, not after a reset (reference/protocol.md, 1.8).
        """
        if self.channel is not None:
            producer = self.producer
            self.unregisterProducer()
            if producer is not None:
                producer.stopProducing()
            self.channel.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Cancel what the response waits for: the client has disconnected."""
        site, self.is_aborted = self.channel.site, not self.finished
        super().connectionLost(reason)
        if self.body is not None:
            self.body.fail()
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.cancel()
        if self.is_aborted and self.received_at is not None:
            site.log(self)

    def access(self) -> AccessRecord:
        """Return the access log's record of this request, once it has ended."""
        return AccessRecord(
            client=self.client_address,
            at=self.received_at or 0.0,
            method=self.method.decode("latin-1"),
            target=self.uri.decode("latin-1"),
            version=self.clientproto.decode("latin-1"),
            status=self.code if self.startedWriting else CLIENT_LEFT,
            sent_bytes=self.sentLength,
            referrer=self._text(b"Referer"),
            agent=self._text(b"User-Agent"),
        )

    def _begin(self) -> None:
        """Find the resource and render it. An invalid Host is rejected (RFC 9112, section 3.2)."""
        site = self.channel.site
        self.received_at = site.now()
        self.client_address = self._peer
        if site.proxies.networks:
            forwarded_for = self._text(b"X-Forwarded-For")
            self.client_address = site.proxies.client_of(self.client_address, forwarded_for)
        if not self.has_valid_host:
            self.channel.persistent = False
            self.respond(_INVALID_HOST)
            return
        self._split_target()
        try:
            resource = site.getResourceFor(self)
        except Exception as error:  # noqa: BLE001 - the last resort, and logged
            self.fail(error)
        else:
            self.render(resource)

    def _split_target(self) -> None:
        """Set `path`, `query` and the segments to look up; `*` and other non-paths are one segment."""
        target = self.uri
        if not target.startswith(b"/"):
            absolute = _ABSOLUTE.match(target)
            target = target if absolute is None else target[absolute.end() :] or b"/"
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        segments = self.path.removeprefix(b"/").split(b"/")
        self.prepath = []
        self.postpath = [*map(unquote_to_bytes, segments)] if b"%" in self.path else segments

    @property
    def _peer(self) -> str:
        return address_of(self.client)

    def _text(self, name: bytes) -> str:
        return (self.header(name) or b"").decode("latin-1")

    def _public(self, error: Exception) -> RegistryError:
        """Return the error that the client is given, and log one that is ours."""
        if isinstance(error, UnsupportedMethod):
            return Unsupported("the method is not allowed here", allow=tuple(sorted(error.allowedMethods)))
        shown = self.uri[:256].decode("latin-1")
        public = public_error(error)
        if isinstance(error, OSError):
            self.channel.site.disk_errors.report(error, f"request failed: {shown}")
        elif public is not error:
            self._log.failure("request failed: {uri}", Failure(error), uri=shown)
        return public

    def _write_head(self, response: Response, body: bytes) -> None:
        self.code = response.status
        self.startedWriting = 1
        self.sentLength = len(body)
        more = [(b"Date", self.channel.site.date())]
        if not self.channel.persistent:
            more.append((b"Connection", b"close"))
        self.channel.write(response.head(self.clientproto, *more) + body)


@implementer(IPushProducer)
class BodyWriter:
    """Writes a response body, as the push producer of its request.

    Use it as a context manager, and `await has_room()` before making each chunk. `count` is called with the
    number of bytes written.
    """

    def __init__(self, request: MirrorRequest, count: Callable[[int], object]) -> None:
        self._request = request
        self._count = count
        self._is_paused = False
        self._waiting: Deferred[None] | None = None

    def __enter__(self) -> "BodyWriter":
        self._request.registerProducer(self, True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._request.channel is not None:
            self._request.unregisterProducer()

    async def has_room(self) -> None:
        """Wait until what was written has been sent."""
        if self._is_paused:
            self._waiting = Deferred()
            await self._waiting

    def write(self, chunk: bytes) -> None:
        """Write a chunk, and count it."""
        self._request.write(chunk)
        self._count(len(chunk))

    def pauseProducing(self) -> None:
        """Note that the transport's buffer is full."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Note that the transport's buffer is empty."""
        self._is_paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: the request cancels the writer when the client disconnects."""


def public_error(error: Exception) -> RegistryError:
    """Return what a client may know of an error: of an internal one, only that it is one."""
    if isinstance(error, RegistryError):
        return error
    if isinstance(error, OSError):
        is_full = error.errno in _FULL
        return Unavailable("the mirror's disk is full" if is_full else "the mirror's disk failed")
    return RegistryError("internal error; see the mirror's log")
