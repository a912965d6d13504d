"""TokenResource: where clients get tokens, by GET as all can, or by OAuth's form as containerd first tries.

distribution's token authentication specification; RFC 6749, section 4.3.
"""

from urllib.parse import parse_qs

from mirrord.access.authenticator import Authenticator, IssuedToken
from mirrord.access.credentials import Basic
from mirrord.access.scopes import Scope, read_scopes
from mirrord.api.client_identity import identify
from mirrord.http.body import RequestBodyStream
from mirrord.http.request import READING, MirrorRequest
from mirrord.http.resource import AsyncResource
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.oci.errors import NameInvalid, SizeInvalid, Unsupported

MAX_FORM_BYTES = 16 * 1024
"""The longest body that need be read for a token."""

_ALLOW: Header = (b"Allow", b"GET, HEAD, POST")
_NEVER_KEPT: Header = (b"Cache-Control", b"no-store")
_MAX_FIELDS = 128


class TokenResource(AsyncResource):
    """The token service, at `challenge.TOKEN_PATH`."""

    isLeaf = True
    error_headers = (API_VERSION,)

    def __init__(self, gate: Authenticator) -> None:
        super().__init__()
        self._gate = gate

    async def respond(self, request: MirrorRequest) -> None:
        """Respond with a token."""
        request.respond(await self.answer(request))

    async def answer(self, request: MirrorRequest) -> Response:
        """A token as JSON.

        Raises:
            RegistryError: There is no token for whoever asks.
        """
        identity = identify(request)
        if request.method in READING:
            fields = _fields(request.query)
            return _told(await self._gate.issue_token(identity, _scopes(fields)))
        if request.method != b"POST":
            return _refused("a token is got by GET or POST")
        fields = _fields(await _form(request.body))
        if fields.get("grant_type") != ["password"]:
            # docker and containerd go on with GET.
            return _refused("of OAuth's grants there is only that by password")
        basic = Basic(fields.get("username", [""])[0], fields.get("password", [""])[0])
        return _told(await self._gate.issue_token(identity, _scopes(fields), basic))


def _told(grant: IssuedToken) -> Response:
    """The answer of both kinds of request; it serves either.

    When it was issued is not in it: clients then count its seconds from now by their own clock, which
    need not agree with ours.
    """
    document = {
        "token": grant.token,
        "access_token": grant.token,
        "token_type": "Bearer",
        "expires_in": grant.seconds,
        "scope": " ".join(map(str, grant.scopes)),
    }
    return Response.of_json(document, API_VERSION, _NEVER_KEPT)


def _refused(message: str) -> Response:
    return Response.of_error(Unsupported(message), API_VERSION, _ALLOW)


async def _form(body: RequestBodyStream | None) -> bytes:
    """All of a body, if it is no longer than a form need be."""
    form = b""
    while body is not None and (chunk := await body.read()):
        form += chunk
        if len(form) > MAX_FORM_BYTES:
            raise SizeInvalid("too long for what a token is asked for")
    return form


def _fields(encoded: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(encoded.decode("ascii"), max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise NameInvalid("what is asked for cannot be read") from None


def _scopes(fields: dict[str, list[str]]) -> tuple[Scope, ...]:
    return read_scopes(fields.get("scope", ()))
