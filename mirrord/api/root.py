"""RegistryRoot: the resource tree of a listener, and the distribution API in it."""

import secrets
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource

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
from mirrord.api.welcome import WelcomeResource
from mirrord.http.page_cache import PageCache
from mirrord.http.request import READING, MirrorRequest, not_allowed
from mirrord.http.resource import AsyncResource
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.observe.metrics import Metrics
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import NameUnknown, RegistryError
from mirrord.oci.names import HOSTED
from mirrord.oci.routes import CatalogRoute, ManifestRoute, Ping, RepositoryRoute, Target, UploadRoute, parse

_CHANGING = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})
_TOKEN = TOKEN_PATH.removeprefix("/v2/").encode("ascii")


class RegistryRoot(Resource):
    """The root of the tree of one listener, whose own upstream is `default`.

    `/` is a page for browsers, `/v2/token` the token service, and everything else the API: a path may begin
    with the prefix of an upstream, and one that does not is the API's to reject. More may be added by
    `putChild`.
    """

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
        super().__init__()
        self._api = APIResource(
            use_cases, gate, default, metrics, pages, make_boundary=make_boundary, is_debugging=is_debugging
        )
        self.putChild(b"", WelcomeResource(default, self._api))
        self.putChild(b"v2", _V2(self._api, TokenResource(gate)))

    def getChild(self, path: bytes, request: MirrorRequest) -> IResource:
        """Return the API."""
        return self._api


class _V2(Resource):
    """`/v2/`: the token service and the API, in which a repository may be called `token` as well."""

    def __init__(self, api: IResource, token: IResource) -> None:
        super().__init__()
        self._api = api
        self._token = token

    def getChild(self, path: bytes, request: MirrorRequest) -> IResource:
        """Return the token service for its own path, else the API."""
        return self._token if path == _TOKEN and not request.postpath else self._api

    def render(self, request: MirrorRequest) -> Any:
        """Respond to a request for `/v2`."""
        return self._api.render(request)


class APIResource(AsyncResource):
    """The distribution API: `/v2/…` and `/PREFIX/v2/…`, parsed from the right into a Route.

    Every request gets one response: the specification's error document for whatever is rejected or fails,
    without internal details.
    """

    isLeaf = True
    error_headers = (API_VERSION,)
    _log = Logger()

    def __init__(
        self,
        use_cases: UseCases,
        gate: Authenticator,
        default: str,
        metrics: Metrics,
        pages: PageCache,
        *,
        make_boundary: Callable[[], str],
        is_debugging: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._sending = SendContext(pages, metrics)
        self._sources = use_cases.sources
        self._visitors = use_cases.visitors
        self._gate = gate
        self._default = default
        self._metrics = metrics
        self._is_debugging = is_debugging
        self._nouns = Handlers.of(use_cases, default, self._sending, make_boundary)
        self._catalog = CatalogResource(use_cases.catalog, use_cases.hosting.reader, default, use_cases.clock)

    async def respond(self, request: MirrorRequest) -> None:
        """Respond to a request, as far as its repository and its caller's rights allow."""
        is_reading = request.method in READING
        if not is_reading and request.method not in _CHANGING:
            request.respond(not_allowed())
            return
        target = self._aimed(request, parse(request.target))
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
        is_here = namespace.lower() == request.authority.decode("latin-1").lower()
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
                    self._log.failure(
                        "response aborted: {uri}", Failure(), uri=request.uri[:256].decode("latin-1")
                    )
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
