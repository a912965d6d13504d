"""A network in memory: scripted responses, recorded requests, a Clock."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from mirrord.config.config import AccountConfig, UpstreamConfig
from mirrord.observe.metrics import Metrics
from mirrord.upstream.client import UpstreamClient

HOME = "https://registry.example"
REALM = "https://auth.example"


@attrs.frozen
class SentRequest:
    """A request as it was sent."""

    method: str
    url: str
    headers: Headers

    def header(self, name: str) -> str | None:
        values = self.headers.getRawHeaders(name)
        return values[0] if values else None

    @property
    def authorization(self) -> str | None:
        return self.header("Authorization")


@attrs.frozen
class Reply:
    """A scripted response; errors and redirects have a body, which has to be read or discarded."""

    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = attrs.field(
        default=attrs.Factory(lambda reply: b"" if reply.status < 300 else b"{}", takes_self=True)
    )
    is_chunked: bool = False


class Hang:
    """No response at all."""


class FakeTransport:
    """Records the calls of a body's transport."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda: self.calls.append(name)


@implementer(IResponse)
class FakeResponse:
    """A response whose body is delivered by `deliverBody`, or by the test."""

    version = (b"HTTP", 1, 1)
    phrase = b""
    previousResponse = None  # noqa: N815 - of IResponse

    def __init__(self, reply: Reply, method: str = "GET", *, is_whole: bool = True) -> None:
        self.code = reply.status
        self.headers = Headers({name: [value] for name, value in reply.headers.items()})
        self.length: Any = UNKNOWN_LENGTH if reply.is_chunked else len(reply.body)
        self.request = attrs.make_class("FakeRequest", ["method"])(method.encode())
        self.transport: Any = FakeTransport()
        self._body = b"" if method == "HEAD" else reply.body
        self._is_taken = False
        self._is_whole = is_whole
        if method == "HEAD":
            self.length = 0

    @property
    def is_leaked(self) -> bool:
        """Whether a body was not requested, so that its connection is lost."""
        return bool(self._body) and not self._is_taken

    def deliverBody(self, protocol: IProtocol) -> None:
        if self._is_taken:
            raise RuntimeError("a body is delivered once")
        self._is_taken = True
        self.protocol: Any = protocol
        self.protocol.makeConnection(self.transport)
        if self._is_whole:
            if self._body:
                self.protocol.dataReceived(self._body)
            self.end()

    def end(self, reason: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(reason or ResponseDone()))

    def setPreviousResponse(self, response: IResponse) -> None:
        raise NotImplementedError


Script = Reply | Hang | Exception


@implementer(IAgent)
class ScriptedAgent:
    """Responds in the order of its script, then by `always`."""

    def __init__(
        self, script: Iterable[Script] = (), always: Callable[[SentRequest], Script] | None = None
    ) -> None:
        self.requests: list[SentRequest] = []
        self.pending: list[Deferred[IResponse]] = []
        self._given: list[tuple[SentRequest, FakeResponse]] = []
        self._script = list(script)
        self.always = always

    def add(self, *script: Script) -> None:
        self._script.extend(script)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        request = SentRequest(method.decode(), uri.decode(), headers or Headers())
        self.requests.append(request)
        if self._script:
            reply = self._script.pop(0)
        elif self.always is not None:
            reply = self.always(request)
        else:
            raise AssertionError(f"nothing in the script for {request}")
        if isinstance(reply, Hang):
            self.pending.append(Deferred())
            return self.pending[-1]
        if isinstance(reply, Exception):
            return fail(reply)
        response = FakeResponse(reply, request.method)
        self._given.append((request, response))
        return succeed(response)

    @property
    def leaked(self) -> list[str]:
        """Requests whose connections are leaked: the response was not read, discarded or aborted."""
        return [f"{request.method} {request.url}" for request, response in self._given if response.is_leaked]

    @property
    def lines(self) -> list[str]:
        """The requests, one line each."""
        return [f"{request.method} {request.url}" for request in self.requests]


def challenge(scope: str | None = "repository:library/app:pull", realm: str = f"{REALM}/token") -> Reply:
    """A 401 with a Bearer challenge."""
    end = "" if scope is None else f',scope="{scope}"'
    return Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="registry.example"{end}'})


def token(value: str = "t1", **fields: object) -> Reply:
    """The response of a token service."""
    more = "".join(f', "{name}": {number}' for name, number in fields.items())
    return Reply(200, {}, f'{{"token": "{value}"{more}}}'.encode())


ME = AccountConfig("me", "s3cret")


def client(
    agent: ScriptedAgent,
    clock: Clock,
    *,
    account: AccountConfig | None = None,
    metrics: Metrics | None = None,
    **config: Any,
) -> UpstreamClient:
    """Return a client whose network is `agent`."""
    config.setdefault("url", HOME)
    return UpstreamClient(
        UpstreamConfig(name="registry.example", account=() if account is None else (account,), **config),
        reactor=clock,
        metrics=metrics or Metrics(["registry.example"]),
        random=Random(7),
        environment={},
        agent=agent,
    )
