"""TokenResource: where clients get tokens, by GET as all can, or by OAuth's form as containerd first tries.

distribution's token authentication specification; RFC 6749, section 4.3.
"""

from urllib.parse import parse_qs

from mirrord.access.credentials import Basic
from mirrord.access.gate import Asking, Gate, Grant
from mirrord.access.scopes import read_scopes
from mirrord.listen.answer import API_VERSION, Answer, Header
from mirrord.oci.errors import NameInvalid, SizeInvalid, Unsupported

MAX_FORM_BYTES = 16 * 1024
"""The longest body that need be read for a token."""

_ALLOW: Header = (b"Allow", b"GET, HEAD, POST")
_NEVER_KEPT: Header = (b"Cache-Control", b"no-store")
_MAX_FIELDS = 128


class TokenResource:
    """Answers requests for `challenge.TOKEN_PATH`."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def answer(self, asking: Asking, method: bytes, uri: bytes, body: bytes = b"") -> Answer:
        """A token as JSON; `body` is that of a POST, all of it.

        Raises:
            RegistryError: There is no token for whoever asks.
        """
        if method in {b"GET", b"HEAD"}:
            fields = _fields(uri.partition(b"?")[2])
            return _told(await self._gate.grant(asking, read_scopes(fields.get("scope", ()))))
        if method != b"POST":
            return Answer.of_error(Unsupported("a token is got by GET or POST"), API_VERSION, _ALLOW)
        fields = _fields(body)
        username, password = (fields.get(name, [""])[0] for name in ("username", "password"))
        if fields.get("grant_type") != ["password"]:
            # docker and containerd go on with GET.
            return Answer.of_error(
                Unsupported("of OAuth's grants there is only that by password"), API_VERSION, _ALLOW
            )
        scopes = read_scopes(fields.get("scope", ()))
        return _told(await self._gate.grant(asking, scopes, Basic(username, password)))


def _told(grant: Grant) -> Answer:
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
    return Answer.of_json(document, API_VERSION, _NEVER_KEPT)


def _fields(encoded: bytes) -> dict[str, list[str]]:
    if len(encoded) > MAX_FORM_BYTES:
        raise SizeInvalid("too long for what a token is asked for")
    try:
        return parse_qs(encoded.decode("ascii"), max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise NameInvalid("what is asked for cannot be read") from None
