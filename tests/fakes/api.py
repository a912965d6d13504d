"""The API of a fake registry, which behaves like Docker Hub (reference/protocol.md, section 2.3)."""

import re
from urllib.parse import parse_qs, quote, unquote

import attrs
from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes.cdn import content_response, sign
from tests.fakes.content import RepositoryContent
from tests.fakes.faults import Kind
from tests.fakes.images import OCI_INDEX
from tests.fakes.responses import PlainResponse, ScriptedResponse
from tests.fakes.state import RegistryState
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
class _RequestTarget:
    """The target of a request; `name` is None for the ping, and for unknown paths."""

    kind: Kind
    name: str | None = None
    reference: str = ""
    query: dict[str, list[str]] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, request: Request) -> "_RequestTarget":
        path, _, query = request.uri.decode("latin-1").partition("?")
        route = _PATH.fullmatch(unquote(path))
        if route is None:
            return cls(Kind.OTHER)
        name, noun, reference = route.group("name", "noun", "reference")
        return cls(_KINDS[noun], name, reference or "", parse_qs(query))


class APIResource(Resource):
    """The resource of `/v2/` and everything below; it is read-only."""

    isLeaf = True

    def __init__(self, state: RegistryState) -> None:
        super().__init__()
        self._state = state

    def render(self, request: Request) -> int:
        """Respond to a request, or challenge it."""
        target = _RequestTarget.parse(request)
        challenge = self._challenge(request, target.name)
        response = self._state.begin(request, target.kind if challenge is None else Kind.CHALLENGE)
        plain = self._respond(target, request, response) if challenge is None else challenge
        return response.send(plain.with_headers(Docker_Distribution_Api_Version="registry/2.0"))

    def _respond(self, target: _RequestTarget, request: Request, response: ScriptedResponse) -> PlainResponse:
        if target.kind is Kind.PING:
            return PlainResponse.json({})
        repository = self._state.content.repositories.get(target.name or "")
        if repository is None:
            return PlainResponse.error(404, "NAME_UNKNOWN", "repository name not known to registry")
        return self._respond_from(repository, target, request, response)

    def _respond_from(
        self,
        repository: RepositoryContent,
        target: _RequestTarget,
        request: Request,
        response: ScriptedResponse,
    ) -> PlainResponse:
        match target.kind:
            case Kind.MANIFEST:
                return self._manifest(repository, target)
            case Kind.BLOB:
                return self._blob(repository, target, request, response)
            case Kind.TAGS:
                return self._tags(repository, target)
            case Kind.REFERRERS if self._state.behavior.has_referrers:
                artifact_type = target.query.get("artifactType", [None])[0]
                return PlainResponse.json(repository.referrers(target.reference, artifact_type)).with_headers(
                    Content_Type=OCI_INDEX
                )
        return PlainResponse(404, memoryview(b"404 page not found\n"), {"Content-Type": "text/plain"})

    def _manifest(self, repository: RepositoryContent, target: _RequestTarget) -> PlainResponse:
        piece = repository.manifest(target.reference)
        if piece is None:
            return PlainResponse.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        limit = self._state.behavior.pull_limit
        used = len(self._state.journal.requests(Kind.MANIFEST, "GET"))
        headers = {
            "Content-Type": piece.media_type,
            "Docker-Content-Digest": piece.digest,
            "ETag": f'"{piece.digest}"',
            "RateLimit-Limit": f"{limit};w=21600",
            "RateLimit-Remaining": f"{max(0, limit - used)};w=21600",
            "Docker-RateLimit-Source": "192.0.2.7",
        }
        return PlainResponse(200, memoryview(piece.content), headers)

    def _blob(
        self,
        repository: RepositoryContent,
        target: _RequestTarget,
        request: Request,
        response: ScriptedResponse,
    ) -> PlainResponse:
        digest = target.reference
        piece = repository.blobs.get(digest)
        if piece is None:
            return PlainResponse.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if response.kind is Kind.CONTENT:
            response.rate = self._state.rates.of(digest)
            return content_response(piece, request, response).with_headers(Docker_Content_Digest=digest)
        expires_at = self._state.clock.seconds() + self._state.behavior.url_lifetime_seconds
        return PlainResponse(307, headers={"Location": self._state.cdn_origin + sign(digest, expires_at)})

    def _tags(self, repository: RepositoryContent, target: _RequestTarget) -> PlainResponse:
        most = self._state.behavior.page_size
        last = target.query.get("last", [""])[0]
        limit = min(int(target.query.get("n", [str(most)])[0]), most)
        later = sorted(tag for tag in repository.tags if tag > last)
        page = later[:limit]
        plain = PlainResponse.json({"name": target.name, "tags": page})
        if len(later) <= limit or not page:
            return plain
        link = f"/v2/{target.name}/tags/list?last={quote(page[-1])}&n={limit}"
        return plain.with_headers(Link=f'<{link}>; rel="next"')

    def _challenge(self, request: Request, name: str | None) -> PlainResponse | None:
        """Return the 401 for a request without the necessary credentials."""
        behavior = self._state.behavior
        authorization = request.getHeader("Authorization")
        scope = f"repository:{name}:pull" if name else None
        is_hidden = (
            behavior.hides_missing and name is not None and name not in self._state.content.repositories
        )
        match behavior.auth:
            case None:
                return None
            case "basic":
                is_known = account_of(authorization, behavior.accounts) is not None
                return (
                    None
                    if is_known
                    else PlainResponse.error(401).with_headers(WWW_Authenticate='Basic realm="fake"')
                )
        if self._state.tokens.is_good(authorization, scope) and not is_hidden:
            return None
        challenge = f'Bearer realm="{self._state.realm_origin}/token",service="fake.registry"'
        if scope is not None:
            challenge += f',scope="{scope}"'
        if authorization is not None:
            challenge += ',error="insufficient_scope"'
        return PlainResponse.error(401).with_headers(WWW_Authenticate=challenge)
