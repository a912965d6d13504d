"""Tokens: who somebody is, signed, so that a password is checked once in five minutes and not a request.

A token proves an identity and narrows it to some repositories; it grants nothing. What its bearer may
do is asked of the rules at each use, and whether there still is such a user of the file: whoever is
taken out of either loses access at once, and not when their tokens expire.

They are JSON Web Tokens (RFC 7519, RFC 8037) with the claims of distribution's token specification, so
that a person can read them; nobody but us checks them. One algorithm is spoken.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mirrord.access.challenge import SERVICE
from mirrord.access.credentials import MAX_LENGTH
from mirrord.access.recent import Recent
from mirrord.access.rules import Action
from mirrord.access.scopes import Scope
from mirrord.oci.names import RepositoryName

TOKEN_SECONDS = 300
_SKEW_SECONDS = 30
"""Our clock may have been set back since."""

_ALGORITHM = "EdDSA"
_CLAIMS = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access")
_REMEMBERED = 1024


@attrs.frozen
class Claims:
    """What a token says: as whom (None: nobody in particular), until when, and for what."""

    user: str | None
    expires_at: float
    scopes: tuple[Scope, ...]

    def covers(self, name: RepositoryName, action: Action) -> bool:
        """Whether it is for this action in the repository that the client calls so."""
        return any(scope.name == name and action in scope.actions for scope in self.scopes)


class InvalidToken(Exception):
    """Not a token of ours, or no longer one; the message holds no part of it."""


@attrs.define(eq=False)
class TokenIssuer:
    """Issues tokens and reads them; `wall_clock` gives Unix seconds.

    A signature takes most of a millisecond to check, and a pull brings the same token many times: those
    checked a moment ago are remembered by their hash.
    """

    _key: Ed25519PrivateKey = attrs.field(repr=False)
    _wall_clock: Callable[[], float]
    _read: Recent[bytes, Claims] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._read = Recent(self._wall_clock, TOKEN_SECONDS, _REMEMBERED)

    def issue(self, user: str | None, scopes: Iterable[Scope]) -> str:
        """A token for TOKEN_SECONDS."""
        now = int(self._wall_clock())
        claims = {
            "iss": SERVICE,
            "sub": user or "",
            "aud": SERVICE,
            "exp": now + TOKEN_SECONDS,
            "nbf": now,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": [scope.claim() for scope in scopes],
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def read(self, token: str) -> Claims:
        """What a token says.

        Raises:
            InvalidToken: It is not ours, or has expired.
        """
        if len(token) > MAX_LENGTH:
            raise InvalidToken("too long")
        fingerprint = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._read.recall(fingerprint)
        if claims is None:
            claims = self._verify(token)
            self._read.note(fingerprint, claims)
        if self._wall_clock() > claims.expires_at + _SKEW_SECONDS:
            raise InvalidToken("expired")
        return claims

    def _verify(self, token: str) -> Claims:
        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=[_ALGORITHM],
                audience=SERVICE,
                issuer=SERVICE,
                # The clock is ours to ask, not the library's.
                options={
                    "require": list(_CLAIMS),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidToken("not a token of this registry") from None
        if claims["nbf"] > self._wall_clock() + _SKEW_SECONDS:
            raise InvalidToken("not valid yet")
        return Claims(claims["sub"] or None, claims["exp"], tuple(map(_scope, claims["access"])))


def _scope(claim: dict[str, Any]) -> Scope:
    """A scope that we have signed, and so written."""
    return Scope(RepositoryName(claim["name"]), frozenset(map(Action, claim["actions"])))
