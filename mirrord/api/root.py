"""RegistryRoot: the resource tree of a listener, and the distribution API in it."""

import secrets
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource, Resource

from mirrord.access.authenticator import Authenticator, Caller
from mirrord.access.challenge import TOKEN_PATH
from mirrord.access.rules import Action
from mirrord.api.blobs import BlobHandler
from mirrord.api.body_streams import CHUNK_BYTES, BytesStream, SendContext
from mirrord.api.client_identity import identify
from mirrord.api.manifests import ManifestHandler
from mirrord.api.referrers import ReferrersHandler
from mirrord.api.registry_request import RegistryRequest
from mirrord.api.request_log import ReadRoute, RequestLog
from mirrord.api.tags import CatalogHandler, TagsHandler
from mirrord.api.token import TokenResource
from mirrord.api.uploads import UploadHandler, scopes_of_mount
from mirrord.api.welcome import WelcomeResource
from mirrord.http.page_cache import PageCache
from mirrord.http.request import READING, MirrorRequest
from mirrord.http.resource import AsyncResource
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.last_clients import LastClients
from mirrord.observe.metrics import Metrics
from mirrord.oci.errors import NameUnknown, Unsupported
from mirrord.oci.routes import (
    BlobRoute,
    CatalogRoute,
    ManifestRoute,
    Ping,
    ReferrersRoute,
    RepositoryRoute,
    TagsRoute,
    Target,
    UploadRoute,
    parse,
)
from mirrord.repository import RepositoryWriter
from mirrord.routing import Router

_ACTIONS = {
    b"GET": Action.PULL,
    b"HEAD": Action.PULL,
    b"POST": Action.PUSH,
    b"PUT": Action.PUSH,
    b"PATCH": Action.PUSH,
    b"DELETE": Action.DELETE,
}
"""The action that each method needs permission for; except of uploads, which are always pushes."""

_TOKEN = TOKEN_PATH.removeprefix("/v2/").encode("ascii")


class RegistryRoot(Resource):
    """The root of the tree of one listener.

    `/` is a page for browsers, `/v2/token` the token service, and every other path the API's: it may begin
    with the prefix of an upstream, and the API rejects what it does not know. More resources may be added by
    `putChild`.
    """

    def __init__(self, api: "APIResource") -> None:
        super().__init__()
        self._api = api
        self.putChild(b"", WelcomeResource(api.default, api))
        self.putChild(b"v2", _V2(api, TokenResource(api.authenticator)))

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
    without internal details. `default` is the listener's own upstream.
    """

    isLeaf = True
    error_headers = (API_VERSION,)

    def __init__(
        self,
        *,
        router: Router,
        authenticator: Authenticator,
        default: str,
        metrics: Metrics,
        pages: PageCache,
        last_clients: LastClients,
        clock: IReactorTime,
        make_boundary: Callable[[], str] = lambda: secrets.token_hex(16),
        is_debugging: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._router = router
        self.authenticator = authenticator
        self.default = default
        self._metrics = metrics
        self._last_clients = last_clients
        self._is_debugging = is_debugging
        self._context = SendContext(pages, metrics)
        self._manifests = ManifestHandler()
        self._blobs = BlobHandler(self._context, make_boundary)
        self._tags = TagsHandler()
        self._referrers = ReferrersHandler()
        self._uploads = UploadHandler(router, default)
        self._catalog = CatalogHandler(router, default, clock)

    async def respond(self, request: MirrorRequest) -> None:
        """Find the repository, authorize the client, and respond."""
        if request.method not in _ACTIONS:
            raise _read_only()
        target = self._without_own_name(request, parse(request.target))
        caller = await self.authenticator.authenticate(identify(request))
        route = target.route
        if isinstance(route, Ping | CatalogRoute):
            response = await self._describe_registry(request, target, route, caller)
            request.respond(response)
            return
        repository = self._router.locate(target, self.default)
        writer, is_read = repository.writer, request.method in READING
        registry_request = RegistryRequest(http=request, target=target, repository=repository, caller=caller)
        if isinstance(route, UploadRoute) or not is_read:
            if writer is None:
                raise NameUnknown("a mirror has no uploads") if is_read else _read_only()
            _authorize(registry_request, route)
            response = await self._write(registry_request, route, writer)
            request.respond(response)
        else:
            _authorize(registry_request, route)
            await self._read(registry_request, route)

    def _without_own_name(self, request: MirrorRequest, target: Target) -> Target:
        """Drop a namespace that is this mirror's own host, as containerd may send; it is not an upstream."""
        namespace = target.namespace
        if namespace is None or self._router.is_known(namespace):
            return target
        is_own = namespace.lower() == request.authority.decode("latin-1").lower()
        return attrs.evolve(target, namespace=None) if is_own else target

    async def _describe_registry(
        self, request: MirrorRequest, target: Target, route: Ping | CatalogRoute, caller: Caller
    ) -> Response:
        """Respond to the routes that name no repository."""
        if request.method not in READING:
            raise _read_only()
        self._router.check_upstream(target)
        caller.require_login()
        match route:
            case Ping():
                return Response.of_json({}, *_common_headers(target))
            case CatalogRoute():
                return await self._catalog.read(target, route, caller, *_common_headers(target))

    async def _write(
        self, request: RegistryRequest, route: RepositoryRoute, writer: RepositoryWriter
    ) -> Response:
        match route:
            case ManifestRoute():
                return await self._manifests.write(request, route, writer)
            case BlobRoute():
                return await self._blobs.write(request, route, writer)
            case UploadRoute():
                return await self._uploads.respond(request, route, writer)
            case TagsRoute() | ReferrersRoute():
                raise Unsupported("this path does not support that method", allow=READING)

    async def _read(self, request: RegistryRequest, route: ReadRoute) -> None:
        http = request.http
        log = RequestLog.begin(
            http, route, request.repository.key, metrics=self._metrics, is_debugging=self._is_debugging
        )
        try:
            response = await self._handle_read(request, route)
        except Exception as error:
            if http.channel is not None and not isinstance(error, CancelledError):
                log.failed(error)
            raise
        log.responded(response)
        if isinstance(route, ManifestRoute):
            self._last_clients.record(request.repository.key, route.reference, http.client_address)
        await self._send(http, response, _common_headers(request.target))

    async def _handle_read(self, request: RegistryRequest, route: ReadRoute) -> Response:
        match route:
            case ManifestRoute():
                return await self._manifests.read(request, route)
            case BlobRoute():
                return await self._blobs.read(request, route)
            case TagsRoute():
                return await self._tags.read(request, route)
            case ReferrersRoute():
                return await self._referrers.read(request, route)

    async def _send(self, request: MirrorRequest, response: Response, common: tuple[Header, ...]) -> None:
        """Send a response; an error of its body aborts it, since the head has been sent (AsyncResource)."""
        response = response.with_headers(*common)
        stream = response.stream
        if stream is None and len(response.body) > CHUNK_BYTES and not request.is_head:
            stream = BytesStream(response.body, self._context).send
        if stream is None:
            request.respond(response)
            if request.sentLength:
                self._metrics.sent(request.sentLength)
            return
        request.begin(response)
        await stream(request)
        request.finish()


def _authorize(request: RegistryRequest, route: RepositoryRoute) -> None:
    """Refuse a request that its caller may not make.

    Raises:
        Unauthorized, Denied: As `Caller.require`.
    """
    match route:
        case UploadRoute():
            action, scopes = Action.PUSH, scopes_of_mount(route)
        case _:
            action, scopes = _ACTIONS[request.method], ()
    request.caller.require(action, request.repository.key, route.repository, *scopes)


def _read_only() -> Unsupported:
    return Unsupported("a mirror is read-only: only GET and HEAD are supported", allow=READING)


def _common_headers(target: Target) -> tuple[Header, ...]:
    """Return the headers of every response to a request whose target is known."""
    if target.namespace is None:
        return (API_VERSION,)
    return (API_VERSION, (b"OCI-Namespace", target.namespace.encode("latin-1", "replace")))
