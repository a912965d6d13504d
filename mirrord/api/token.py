"""TokenResource: the token service.

Every client can request a token by GET (distribution's token authentication specification); containerd first
tries OAuth's password grant by POST (RFC 6749, section 4.3).
"""

from urllib.parse import parse_qs

from mirrord.access.authenticator import Authenticator, IssuedToken
from mirrord.access.credentials import Basic
from mirrord.access.scopes import read_scopes
from mirrord.api.client_identity import identify
from mirrord.http.body import RequestBodyStream
from mirrord.http.request import READING, MirrorRequest
from mirrord.http.resource import AsyncResource
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.oci.errors import NameInvalid, SizeInvalid, Unsupported

MAX_FORM_BYTES = 16 * 1024
"""The longest body of a token request."""

_ALLOW: Header = (b"Allow", b"GET, HEAD, POST")
_NO_STORE: Header = (b"Cache-Control", b"no-store")
_MAX_FIELDS = 128


class TokenResource(AsyncResource):
    """The token service, at `challenge.TOKEN_PATH`."""

    isLeaf = True
    error_headers = (API_VERSION,)

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__()
        self._authenticator = authenticator

    async def respond(self, request: MirrorRequest) -> None:
        """Respond with a token as JSON, or with the error that there is none for this client."""
        request.respond(await self._issue(request))

    async def _issue(self, request: MirrorRequest) -> Response:
        identity = identify(request)
        basic = None
        if request.method in READING:
            fields = _fields(request.query)
        elif request.method == b"POST":
            fields = _fields(await _read_form(request.body))
            if fields.get("grant_type") != ["password"]:
                # docker and containerd then continue with GET.
                return _unsupported("the only supported grant type is password")
            basic = Basic(fields.get("username", [""])[0], fields.get("password", [""])[0])
        else:
            return _unsupported("tokens are requested by GET or POST")
        scopes = read_scopes(fields.get("scope", ()))
        return _token_response(await self._authenticator.issue_token(identity, scopes, basic))


def _token_response(issued: IssuedToken) -> Response:
    """Return the response to both kinds of requests.

    It has no `issued_at`: clients then count `expires_in` from the arrival by their own clock, which need not
    agree with ours.
    """
    document = {
        "token": issued.token,
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.seconds,
        "scope": " ".join(map(str, issued.scopes)),
    }
    return Response.of_json(document, API_VERSION, _NO_STORE)


def _unsupported(message: str) -> Response:
    return Response.of_error(Unsupported(message), API_VERSION, _ALLOW)


async def _read_form(body: RequestBodyStream | None) -> bytes:
    form = b""
    while body is not None and (chunk := await body.read()):
        form += chunk
        if len(form) > MAX_FORM_BYTES:
            raise SizeInvalid(f"a token request may have at most {MAX_FORM_BYTES} bytes")
    return form


def _fields(encoded: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(encoded.decode("ascii"), max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise NameInvalid("invalid query or form") from None
