"""RegistryRoot: every request to a mirror, from its first line to its last byte."""

import errno
import re
import secrets
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.access.authenticator import Authenticator, Caller
from mirrord.access.challenge import TOKEN_PATH
from mirrord.access.rules import Action
from mirrord.api.body_streams import CHUNK_BYTES, BytesStream, SendContext
from mirrord.api.caller import identify
from mirrord.api.handlers import Handlers
from mirrord.api.ports import UseCases
from mirrord.api.request_log import RequestLog
from mirrord.api.resource import BodyStream, ChangingResource, RegistryRequest, RegistryResource, unsupported
from mirrord.api.tags import CatalogResource
from mirrord.api.token import TokenResource
from mirrord.api.uploads import scopes_of_mount
from mirrord.api.welcome import is_wanted, welcome
from mirrord.http.page_cache import PageCache
from mirrord.http.request import READING, MirrorRequest, not_allowed
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.observe.metrics import Metrics
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import NameUnknown, RegistryError, Unavailable
from mirrord.oci.names import HOSTED
from mirrord.oci.routes import CatalogRoute, ManifestRoute, Ping, RepositoryRoute, Target, UploadRoute, parse

_CHANGING = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})

_FULL = (errno.ENOSPC, errno.EDQUOT)
_AUTHORITY = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class RegistryRoot:
    """Answers the clients of one listener, whose own upstream is `default`.

    Its `respond` is what a MirrorSite wants. Every request gets one answer: the spec's document for
    what is refused or fails, whatever it was, and nothing of our inside. A hit is answered before
    `respond` returns: the coroutine is driven by hand up to its first wait, and most have none.
    """

    _log = Logger()

    def __init__(
        self,
        use_cases: UseCases,
        gate: Authenticator,
        default: str,
        metrics: Metrics,
        pages: PageCache,
        *,
        make_boundary: Callable[[], str] = lambda: secrets.token_hex(16),
        is_debugging: Callable[[], bool] = lambda: True,
    ) -> None:
        self._sending = SendContext(pages, metrics)
        self._sources = use_cases.sources
        self._visitors = use_cases.visitors
        self._gate = gate
        self._default = default
        self._metrics = metrics
        self._is_debugging = is_debugging
        self._nouns = Handlers.of(use_cases, default, self._sending, make_boundary)
        self._catalog = CatalogResource(use_cases.catalog, use_cases.hosting.reader, default, use_cases.clock)
        self._token = TokenResource(gate)

    def respond(self, request: MirrorRequest) -> None:
        """Answer a request, now or later. What changes something goes on when its client has left."""
        running = self._answer(request)
        try:
            waited = running.send(None)
        except StopIteration:
            return
        waiting = Deferred.fromCoroutine(_go_on(running, waited))
        if request.method in READING:
            request.waiting = waiting

    async def _answer(self, request: MirrorRequest) -> None:
        """Answer, whatever happens."""
        try:
            await self._dispatch(request)
        except CancelledError:
            # The client left, or the drain has waited for it long enough.
            request.break_off()
        except Exception as error:  # noqa: BLE001 - the last resort, and logged
            if request.channel is not None:
                request.respond(self._answer_error(request, error))

    async def _dispatch(self, request: MirrorRequest) -> None:
        uri = _origin_form(request.uri)
        path, is_reading = uri.partition(b"?")[0], request.method in READING
        if not is_reading and request.method not in _CHANGING:
            request.respond(not_allowed())
        elif is_reading and path == b"/" and is_wanted(request.header(b"Accept")):
            request.respond(welcome(_host(request), self._default, is_secure=request.isSecure()))
        elif path == TOKEN_PATH.encode("ascii"):
            request.respond(await self._token.answer(request))
        else:
            target = self._aimed(request, parse(uri))
            caller = await self._gate.authenticate(identify(request))
            if not isinstance(target.route, Ping | CatalogRoute):
                await self._ask(request, target, target.route, caller)
            elif is_reading:
                answer = await self._answer_self(target, caller)
                if request.channel is not None:
                    request.respond(answer)
            else:
                request.respond(not_allowed())

    def _aimed(self, request: MirrorRequest, target: Target) -> Target:
        """What a request is aimed at: containerd may name us by our own host, which is no upstream."""
        namespace = target.namespace
        if namespace is None or self._sources.knows(namespace):
            return target
        is_here = namespace.lower() == _host(request).decode("latin-1").lower()
        return attrs.evolve(target, namespace=None) if is_here else target

    async def _ask(
        self, request: MirrorRequest, target: Target, route: RepositoryRoute, caller: Caller
    ) -> None:
        """Have the resource of a repository answer, if the caller may ask it."""
        source = self._sources.locate(target, self._default)
        is_upload, is_reading = isinstance(route, UploadRoute), request.method in READING
        is_hosted = source.upstream == HOSTED
        if not is_hosted and not is_reading:
            request.respond(not_allowed())
            return
        if not is_hosted and is_upload:
            raise NameUnknown("a mirror has no uploads")
        action = _action(request.method, is_upload=is_upload)
        caller.require(action, source, route.repository, *scopes_of_mount(route))
        asked = RegistryRequest(request, target, source, caller)
        resource = (self._nouns.hosted if is_hosted else self._nouns.mirrored).get(type(route))
        if is_reading and resource is not None:
            await self._read(asked, resource)
        else:
            await self._change(asked, self._nouns.changing.get(type(route)))

    async def _change(self, asked: RegistryRequest, resource: ChangingResource | None) -> None:
        answer = unsupported(READING) if resource is None else await resource.change(asked)
        if asked.request.channel is not None:
            asked.request.respond(answer)

    async def _read(self, asked: RegistryRequest, resource: RegistryResource) -> None:
        request, target, source = asked.request, asked.target, asked.source
        exchange = RequestLog.begin(
            request,
            target,
            source,
            kind=resource.kind,
            metrics=self._metrics,
            is_debugging=self._is_debugging,
        )
        try:
            reply = await resource.reply(asked)
        except Exception as error:
            if source.upstream == HOSTED and isinstance(error, RegistryError):
                error.cache_status = str(CacheResult.hit())
            if request.channel is not None and not isinstance(error, CancelledError):
                exchange.failed(error)
            raise
        exchange.answered(reply)
        if isinstance(target.route, ManifestRoute):
            self._visitors.record(source, target.route.reference, request.client_address)
        headers = (*reply.headers, *_how(reply.outcome), *_common(target))
        answer = Response(reply.status, headers, reply.length, reply.body)
        flow = reply.flow
        if flow is None and len(reply.body) > CHUNK_BYTES and not request.is_head:
            flow = BytesStream(reply.body, self._sending)
        if flow is not None:
            request.begin(answer)
            await self._send(request, flow)
            return
        request.respond(answer)
        if request.sentLength:
            self._metrics.sent(request.sentLength)

    async def _send(self, request: MirrorRequest, flow: BodyStream) -> None:
        """Send a body after its headers; if it fails, end short of what they promised."""
        try:
            await flow.send(request)
        except Exception as error:  # noqa: BLE001 - nothing can be answered any more
            if request.channel is not None:
                # A download says by itself why it failed, once for all its clients.
                if not isinstance(error, RegistryError | CancelledError):
                    self._log.failure("An answer broke off: {uri}", Failure(), uri=_shown(request))
                request.break_off()
        else:
            request.finish()

    async def _answer_self(self, target: Target, caller: Caller) -> Response:
        """The routes that name no repository."""
        self._sources.upstream_of(target)
        caller.require_login()
        if isinstance(target.route, Ping):
            return Response.of_json({}, *_common(target))
        return await self._catalog.answer(target, caller, *_common(target))

    def _answer_error(self, request: MirrorRequest, error: Exception) -> Response:
        """The spec's document; where it was us who failed, nothing of how, which goes to the log."""
        if isinstance(error, RegistryError):
            return Response.of_error(error, API_VERSION)
        if isinstance(error, OSError) and error.errno in _FULL:
            self._log.warn("no room for a request: {uri}", uri=_shown(request))
            return Response.of_error(Unavailable("the mirror's disk is full"), API_VERSION)
        self._log.failure("A request failed: {uri}", Failure(error), uri=_shown(request))
        if isinstance(error, OSError):
            return Response.of_error(Unavailable("the mirror's disk does not work"), API_VERSION)
        return Response.of_error(RegistryError("the mirror failed; its log says how"), API_VERSION)


def _go_on(running: Coroutine[Any, Any, None], waited: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that was begun by hand and waits for `waited`."""
    step: Callable[[Any], Any]
    while True:
        try:
            result = yield waited
        except BaseException as error:  # noqa: BLE001 - all of it is the coroutine's
            step, result = running.throw, error
        else:
            step = running.send
        try:
            waited = step(result)
        except StopIteration:
            return


def _origin_form(uri: bytes) -> bytes:
    """Path and query of a request's target, which may be absolute (RFC 9112, section 3.2.2)."""
    authority = _AUTHORITY.match(uri)
    return uri if authority is None else uri[authority.end() :] or b"/"


def _host(request: MirrorRequest) -> bytes:
    """The host that a request is for: that of an absolute target goes before the header's."""
    authority = _AUTHORITY.match(request.uri)
    return authority[1] if authority else request.header(b"Host") or b""


def _action(method: bytes, *, is_upload: bool) -> Action:
    """What somebody has to be allowed: whoever may push may also look at an upload, and give it up."""
    if is_upload or method in {b"POST", b"PUT", b"PATCH"}:
        return Action.PUSH
    return Action.DELETE if method == b"DELETE" else Action.PULL


def _common(target: Target) -> tuple[Header, ...]:
    """What every answer carries, once it is settled which upstream is meant."""
    if target.namespace is None:
        return (API_VERSION,)
    return (API_VERSION, (b"OCI-Namespace", target.namespace.encode("latin-1", "replace")))


def _how(outcome: CacheResult) -> tuple[Header, ...]:
    """How the answer came about (RFC 9211), and how old it is."""
    cache_status = (b"Cache-Status", str(outcome).encode("ascii"))
    if outcome.age_seconds is None:
        return (cache_status,)
    return (cache_status, (b"Age", b"%d" % max(0, outcome.age_seconds)))


def _shown(request: MirrorRequest) -> str:
    return request.uri[:256].decode("latin-1")
