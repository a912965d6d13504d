"""The API of a fake registry, with Docker Hub's manners (reference/protocol.md, section 2.3)."""

import re
from urllib.parse import parse_qs, quote, unquote

import attrs
from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes.cdn import content_answer, sign
from tests.fakes.exchange import Answer, Exchange
from tests.fakes.faults import Kind
from tests.fakes.holdings import Shelf
from tests.fakes.images import OCI_INDEX
from tests.fakes.scene import Scene
from tests.fakes.tokens import account_of

_PATH = re.compile(r"/v2/(?:(?P<name>.+)/(?P<noun>manifests|blobs|tags|referrers)/(?P<reference>[^/]+))?")
_KINDS = {
    None: Kind.PING,
    "manifests": Kind.MANIFEST,
    "blobs": Kind.BLOB,
    "tags": Kind.TAGS,
    "referrers": Kind.REFERRERS,
}


@attrs.frozen
class _Asked:
    """What a request asks for; `name` is None for the ping, and for what is no route."""

    kind: Kind
    name: str | None = None
    reference: str = ""
    query: dict[str, list[str]] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, request: Request) -> "_Asked":
        path, _, query = request.uri.decode("latin-1").partition("?")
        route = _PATH.fullmatch(unquote(path))
        if route is None:
            return cls(Kind.OTHER)
        name, noun, reference = route.group("name", "noun", "reference")
        return cls(_KINDS[noun], name, reference or "", parse_qs(query))


class Api(Resource):
    """Everything below `/v2/`, for reading."""

    isLeaf = True

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene

    def render(self, request: Request) -> int:
        """Answer a request of any kind, once it has its token."""
        asked = _Asked.parse(request)
        challenge = self._challenge(request, asked.name)
        exchange = self._scene.begin(request, asked.kind if challenge is None else Kind.CHALLENGE)
        answer = self._answer(asked, request, exchange) if challenge is None else challenge
        return exchange.answer(answer.with_headers(Docker_Distribution_Api_Version="registry/2.0"))

    def _answer(self, asked: _Asked, request: Request, exchange: Exchange) -> Answer:
        if asked.kind is Kind.PING:
            return Answer.json({})
        shelf = self._scene.holdings.shelves.get(asked.name or "")
        if shelf is None:
            return Answer.error(404, "NAME_UNKNOWN", "repository name not known to registry")
        return self._answer_from(shelf, asked, request, exchange)

    def _answer_from(self, shelf: Shelf, asked: _Asked, request: Request, exchange: Exchange) -> Answer:
        match asked.kind:
            case Kind.MANIFEST:
                return self._manifest(shelf, asked)
            case Kind.BLOB:
                return self._blob(shelf, asked, request, exchange)
            case Kind.TAGS:
                return self._tags(shelf, asked)
            case Kind.REFERRERS if self._scene.manners.has_referrers:
                wanted = asked.query.get("artifactType", [None])[0]
                return Answer.json(shelf.referrers(asked.reference, wanted)).with_headers(
                    Content_Type=OCI_INDEX
                )
        return Answer(404, memoryview(b"404 page not found\n"), {"Content-Type": "text/plain"})

    def _manifest(self, shelf: Shelf, asked: _Asked) -> Answer:
        piece = shelf.manifest(asked.reference)
        if piece is None:
            return Answer.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        limit = self._scene.manners.pull_limit
        used = len(self._scene.journal.requests(Kind.MANIFEST, "GET"))
        headers = {
            "Content-Type": piece.media_type,
            "Docker-Content-Digest": piece.digest,
            "ETag": f'"{piece.digest}"',
            "RateLimit-Limit": f"{limit};w=21600",
            "RateLimit-Remaining": f"{max(0, limit - used)};w=21600",
            "Docker-RateLimit-Source": "192.0.2.7",
        }
        return Answer(200, memoryview(piece.content), headers)

    def _blob(self, shelf: Shelf, asked: _Asked, request: Request, exchange: Exchange) -> Answer:
        digest = asked.reference
        piece = shelf.blobs.get(digest)
        if piece is None:
            return Answer.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if exchange.kind is Kind.CONTENT:
            exchange.rate = self._scene.pace.of(digest)
            return content_answer(piece, request, exchange).with_headers(Docker_Content_Digest=digest)
        expires_at = self._scene.clock.seconds() + self._scene.manners.url_lifetime_seconds
        return Answer(307, headers={"Location": self._scene.cdn_origin + sign(digest, expires_at)})

    def _tags(self, shelf: Shelf, asked: _Asked) -> Answer:
        most = self._scene.manners.page_size
        last = asked.query.get("last", [""])[0]
        limit = min(int(asked.query.get("n", [str(most)])[0]), most)
        later = sorted(tag for tag in shelf.tags if tag > last)
        page = later[:limit]
        answer = Answer.json({"name": asked.name, "tags": page})
        if len(later) <= limit or not page:
            return answer
        link = f"/v2/{asked.name}/tags/list?last={quote(page[-1])}&n={limit}"
        return answer.with_headers(Link=f'<{link}>; rel="next"')

    def _challenge(self, request: Request, name: str | None) -> Answer | None:
        """The 401 that this request earns, if it does."""
        manners = self._scene.manners
        authorization = request.getHeader("Authorization")
        scope = f"repository:{name}:pull" if name else None
        is_hidden = manners.hides_missing and name is not None and name not in self._scene.holdings.shelves
        match manners.auth:
            case None:
                return None
            case "basic":
                is_known = account_of(authorization, manners.accounts) is not None
                return (
                    None
                    if is_known
                    else Answer.error(401).with_headers(WWW_Authenticate='Basic realm="fake"')
                )
        if self._scene.tokens.is_good(authorization, scope) and not is_hidden:
            return None
        challenge = f'Bearer realm="{self._scene.realm_origin}/token",service="fake.registry"'
        if scope is not None:
            challenge += f',scope="{scope}"'
        if authorization is not None:
            challenge += ',error="insufficient_scope"'
        return Answer.error(401).with_headers(WWW_Authenticate=challenge)
