"""An exchange: one request and its answer, on which the script plays its faults."""

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
from tests.fakes.journal import Entry

_CHUNK = 256 * 1024
_TICK_SECONDS = 0.01

_HTML = b"<html><body><h1>Welcome to the hotel's Wi-Fi</h1></body></html>"
_EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS", 503: "UNAVAILABLE"}


@attrs.frozen
class Answer:
    """What is to be answered; `start` is where in the whole content the body begins."""

    status: int
    body: memoryview = attrs.field(default=memoryview(b""), repr=False)
    headers: dict[str, str] = attrs.field(factory=dict)
    start: int = 0

    @classmethod
    def json(cls, document: object, status: int = 200) -> Self:
        """A JSON document."""
        body = memoryview(json.dumps(document).encode())
        return cls(status, body, {"Content-Type": "application/json"})

    @classmethod
    def error(cls, status: int, code: str | None = None, message: str = "") -> Self:
        """The spec's error document."""
        error = {"code": code or _CODES.get(status, "UNKNOWN"), "message": message}
        return cls.json({"errors": [error]}, status)

    def with_headers(self, **headers: str) -> "Answer":
        """The same with more headers; `_` in a name stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return attrs.evolve(self, headers=self.headers | named)


def _scripted(status: Status) -> Answer:
    answer = Answer.error(status.code, message="as the script says")
    if status.body is not None:
        answer = Answer(status.code, memoryview(status.body.encode()), {"Content-Type": "text/plain"})
    return answer if status.retry_after is None else answer.with_headers(Retry_After=str(status.retry_after))


@implementer(IPushProducer)
@attrs.define(eq=False)
class Exchange:
    """A request being answered, at so many bytes a second (None: as fast as it is taken)."""

    _request: Request
    _clock: IReactorTime
    _entry: Entry
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
        """Whether a trait of this class holds for the request."""
        return any(isinstance(each, trait) for each in self._traits)

    def answer(self, answer: Answer) -> int:
        """Answer so, but for the faults; returns what `Resource.render` has to."""
        self._request.notifyFinish().addBoth(self._lost)
        delay = sum(trait.seconds for trait in self._traits if isinstance(trait, Delay))
        if not isinstance(self._event, Hang):
            self._later(delay, lambda: self._write_headers(self._replaced(answer)))
        return NOT_DONE_YET

    def pauseProducing(self) -> None:
        """The client takes no more for now."""
        if not self._is_stalled:
            self._cancel()

    def resumeProducing(self) -> None:
        """The client takes more."""
        if not self._is_over and not self._is_stalled and self._next is None:
            self._later(0, self._write_some)

    def stopProducing(self) -> None:
        """The client has gone."""
        self._cancel()

    def _replaced(self, answer: Answer) -> Answer:
        match self._event:
            case Status() as status:
                return _scripted(status)
            case Html(code=code):
                return Answer(code, memoryview(_HTML), {"Content-Type": "text/html"})
            case ExpiredUrl():
                return Answer(403, memoryview(_EXPIRED), {"Content-Type": "application/xml"})
            case ShortBody(to=to):
                return attrs.evolve(answer, body=answer.body[:to])
            case WrongByte(at=at) if answer.start <= at < answer.start + len(answer.body):
                wrong = bytearray(answer.body)
                wrong[at - answer.start] ^= 0xFF
                return attrs.evolve(answer, body=memoryview(wrong))
        return answer

    def _write_headers(self, answer: Answer) -> None:
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
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
        request.setResponseCode(answer.status)
        for name, value in headers.items():
            request.setHeader(name, value)
        if "Content-Type" not in headers and hasattr(request, "defaultContentType"):
            request.defaultContentType = None
        self._entry.answered(answer.status)
        if request.method == b"HEAD" or not answer.body:
            self._finish()
            return
        self._body, self._start, self._began_at = answer.body, answer.start, self._clock.seconds()
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
        """How far the body may be sent by now."""
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
