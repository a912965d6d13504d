"""The response to one request, with the faults of the script."""

import json
from collections.abc import Callable
from typing import Self

import attrs
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from tests.fakes.faults import (
    Chunked,
    Cut,
    Delay,
    Event,
    ExpiredUrl,
    Hang,
    Header,
    Html,
    HugeHeaders,
    Kind,
    MissingHeaders,
    ShortBody,
    Stall,
    Status,
    Trait,
    WrongByte,
)
from tests.fakes.journal import JournalEntry

_CHUNK = 256 * 1024
_TICK_SECONDS = 0.01

_HTML = b"<html><body><h1>Welcome to the hotel's Wi-Fi</h1></body></html>"
_EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS", 503: "UNAVAILABLE"}


@attrs.frozen
class PlainResponse:
    """A response without faults; `start` is the offset of its body in the whole content."""

    status: int
    body: memoryview = attrs.field(default=memoryview(b""), repr=False)
    headers: dict[str, str] = attrs.field(factory=dict)
    start: int = 0

    @classmethod
    def json(cls, document: object, status: int = 200) -> Self:
        """Return a response with a JSON document."""
        body = memoryview(json.dumps(document).encode())
        return cls(status, body, {"Content-Type": "application/json"})

    @classmethod
    def error(cls, status: int, code: str | None = None, message: str = "") -> Self:
        """Return a response with the specification's error document."""
        error = {"code": code or _CODES.get(status, "UNKNOWN"), "message": message}
        return cls.json({"errors": [error]}, status)

    def with_headers(self, **headers: str) -> "PlainResponse":
        """Return the same response with more headers; `_` in a name stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return attrs.evolve(self, headers=self.headers | named)


def _scripted(status: Status) -> PlainResponse:
    plain = PlainResponse.error(status.code, message="fault of the script")
    if status.body is not None:
        plain = PlainResponse(status.code, memoryview(status.body.encode()), {"Content-Type": "text/plain"})
    return plain if status.retry_after is None else plain.with_headers(Retry_After=str(status.retry_after))


@implementer(IPushProducer)
@attrs.define(eq=False)
class ScriptedResponse:
    """A response that is being sent, at `rate` bytes per second (None: as fast as the client reads)."""

    _request: Request
    _clock: IReactorTime
    _entry: JournalEntry
    kind: Kind
    _event: Event | None
    _traits: tuple[Trait, ...]
    rate: float | None = None
    _body: memoryview = attrs.field(default=memoryview(b""), init=False)
    _start: int = attrs.field(default=0, init=False)
    _sent: int = attrs.field(default=0, init=False)
    _began_at: float = attrs.field(default=0.0, init=False)
    _stalled_for: float = attrs.field(default=0.0, init=False)
    _next: IDelayedCall | None = attrs.field(default=None, init=False)
    _is_stalled: bool = attrs.field(default=False, init=False)
    _is_over: bool = attrs.field(default=False, init=False)

    def has(self, trait: type[Trait]) -> bool:
        """Return whether a trait of this class applies to the request."""
        return any(isinstance(each, trait) for each in self._traits)

    def send(self, plain: PlainResponse) -> int:
        """Send a response with the faults; return the result for `Resource.render`."""
        self._request.notifyFinish().addBoth(self._lost)
        delay = sum(trait.seconds for trait in self._traits if isinstance(trait, Delay))
        if not isinstance(self._event, Hang):
            self._later(delay, lambda: self._write_headers(self._replaced(plain)))
        return NOT_DONE_YET

    def pauseProducing(self) -> None:
        """Pause: the client does not keep up."""
        if not self._is_stalled:
            self._cancel()

    def resumeProducing(self) -> None:
        """Resume."""
        if not self._is_over and not self._is_stalled and self._next is None:
            self._later(0, self._write_some)

    def stopProducing(self) -> None:
        """Stop: the client has disconnected."""
        self._cancel()

    def _replaced(self, plain: PlainResponse) -> PlainResponse:
        match self._event:
            case Status() as status:
                return _scripted(status)
            case Html(code=code):
                return PlainResponse(code, memoryview(_HTML), {"Content-Type": "text/html"})
            case ExpiredUrl():
                return PlainResponse(403, memoryview(_EXPIRED), {"Content-Type": "application/xml"})
            case ShortBody(to=to):
                return attrs.evolve(plain, body=plain.body[:to])
            case WrongByte(at=at) if plain.start <= at < plain.start + len(plain.body):
                wrong = bytearray(plain.body)
                wrong[at - plain.start] ^= 0xFF
                return attrs.evolve(plain, body=memoryview(wrong))
        return plain

    def _write_headers(self, plain: PlainResponse) -> None:
        headers = {"Content-Length": str(len(plain.body)), **plain.headers}
        for trait in self._traits:
            match trait:
                case Header(name=name, value=value):
                    headers[name] = value
                case HugeHeaders(size=size):
                    headers |= {f"X-Padding-{place}": "p" * 1000 for place in range(size // 1000)}
                case MissingHeaders(names=names):
                    headers = {name: value for name, value in headers.items() if name not in names}
                case Chunked():
                    headers.pop("Content-Length", None)
        request = self._request
        request.setResponseCode(plain.status)
        for name, value in headers.items():
            request.setHeader(name, value)
        if "Content-Type" not in headers and hasattr(request, "defaultContentType"):
            request.defaultContentType = None
        self._entry.answered(plain.status)
        if request.method == b"HEAD" or not plain.body:
            self._finish()
            return
        self._body, self._start, self._began_at = plain.body, plain.start, self._clock.seconds()
        request.write(b"")
        request.registerProducer(self, True)
        self._later(0, self._write_some)

    def _write_some(self) -> None:
        end = self._allowed()
        if end > self._sent:
            chunk = bytes(self._body[self._sent : end])
            self._sent = end
            self._entry.sent(len(chunk))
            self._request.write(chunk)
        match self._event:
            case Cut(after=after, abort=abort) if self._sent >= min(after, len(self._body)):
                self._break_off(abort=abort)
            case Stall(after=after, seconds=seconds) if self._sent >= after:
                self._event, self._is_stalled = None, True
                if seconds is not None:
                    self._stalled_for = seconds
                    self._later(seconds, self._go_on)
            case _ if self._sent == len(self._body):
                self._finish()
            case _ if self._next is None and not self._is_over:
                self._later(0 if self.rate is None else _TICK_SECONDS, self._write_some)

    def _go_on(self) -> None:
        self._is_stalled = False
        self._write_some()

    def _allowed(self) -> int:
        """Return how far the body may be sent now."""
        burst = _CHUNK if self.rate is None else max(_CHUNK, int(2 * _TICK_SECONDS * self.rate))
        end = min(len(self._body), self._sent + burst)
        if isinstance(self._event, Cut | Stall):
            end = min(end, self._event.after)
        if self.rate is not None:
            elapsed = self._clock.seconds() - self._began_at - self._stalled_for
            end = min(end, int(elapsed * self.rate))
        return max(end, self._sent)

    def _later(self, seconds: float, then: Callable[[], object]) -> None:
        def call() -> None:
            self._next = None
            then()

        self._next = self._clock.callLater(seconds, call)

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _break_off(self, *, abort: bool) -> None:
        self._entry.finished()
        self._is_over = True
        self._request.unregisterProducer()
        if abort:
            self._request.channel.forceAbortClient()
        else:
            self._request.channel.loseConnection()

    def _finish(self) -> None:
        self._entry.finished()
        self._is_over = True
        if self._body:
            self._request.unregisterProducer()
        self._request.finish()

    def _lost(self, _result: Failure | None) -> None:
        self._is_over = True
        self._cancel()
