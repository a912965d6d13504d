"""The WWW-Authenticate challenge of a response that requires authentication. Pure.

One kind of challenge serves all clients. docker, podman and skopeo learn from `/v2/` alone that a registry
requires a login, and would never send a password to one that responds with 200 there; with Basic they
could then not pull without a password. With Bearer they request a token from the token service, with their
password or without: that is how Docker Hub lets some clients read and others write, and containerd,
buildkit, oras and regclient do the same at any request (reference/protocol.md, 1.7 and 1.9). Only the token
service itself challenges with Basic.

A docker daemon that uses a mirror for Docker Hub requests an anonymous token from it; if it is logged in
to Docker Hub, it sends that password to the mirror's token service too, where it is not checked if
anonymous clients may pull (authenticator.py).
"""

from collections.abc import Iterable

from mirrord.access.scopes import Scope

SERVICE = "mirrord"
"""The service in challenges, and the issuer and audience of tokens."""

TOKEN_PATH = "/v2/token"  # noqa: S105 - a path, not a token

BASIC = f'Basic realm="{SERVICE}", charset="UTF-8"'
"""RFC 7617, section 2.1."""

INVALID_TOKEN = "invalid_token"  # noqa: S105 - RFC 6750, section 3.1
INSUFFICIENT_SCOPE = "insufficient_scope"


def bearer(origin: str, scopes: Iterable[Scope] = (), error: str | None = None) -> str:
    """Return the challenge of the registry that the client reaches at `origin`."""
    parameters = {"realm": f"{origin}{TOKEN_PATH}", "service": SERVICE}
    if scope := " ".join(map(str, scopes)):
        parameters["scope"] = scope
    if error is not None:
        parameters["error"] = error
    return "Bearer " + ",".join(f'{name}="{_quotable(value)}"' for name, value in parameters.items())


def _quotable(value: str) -> str:
    """Drop what a quoted string needs escapes for (RFC 9110, section 5.6.4); no valid host has any."""
    return "".join(character for character in value if character.isprintable() and character not in '"\\')
