"""Challenge: what a client is told that has to say who it is. Pure.

One kind of challenge serves all clients. docker, podman and skopeo learn from `/v2/` alone that there
is something to log in to, and would never send a password to a registry that answered them 200 there;
with Basic they could then not pull without one. With Bearer they go to the token service, with their
password or without, and come back with a token: that is how Docker Hub lets some read and some write,
and containerd, buildkit, oras and regclient do the same at any request (reference/protocol.md, 1.7
and 1.9). Only the token service itself asks for Basic.

A docker daemon that has a mirror for Docker Hub takes an anonymous token from it; if it is logged in
to Docker Hub, it sends that password to the mirror's token service too, and there it is not looked at
where everybody may pull (gate.py).
"""

from collections.abc import Iterable

from mirrord.access.scopes import Scope

SERVICE = "mirrord"
"""What tokens are for, and from; their audience."""

TOKEN_PATH = "/v2/token"  # noqa: S105 - where tokens are given, none itself

BASIC = f'Basic realm="{SERVICE}", charset="UTF-8"'
"""RFC 7617, section 2.1."""

INVALID_TOKEN = "invalid_token"  # noqa: S105 - RFC 6750, section 3.1
INSUFFICIENT_SCOPE = "insufficient_scope"


def bearer(origin: str, scopes: Iterable[Scope] = (), error: str | None = None) -> str:
    """The challenge that leads to the token service of the registry that the client reaches at `origin`."""
    parameters = {"realm": f"{origin}{TOKEN_PATH}", "service": SERVICE}
    if scope := " ".join(map(str, scopes)):
        parameters["scope"] = scope
    if error is not None:
        parameters["error"] = error
    return "Bearer " + ",".join(f'{name}="{_quotable(value)}"' for name, value in parameters.items())


def _quotable(value: str) -> str:
    """What may stand between quotes (RFC 9110, section 5.6.4): a host that needs more is no host."""
    return "".join(character for character in value if character.isprintable() and character not in '"\\')
