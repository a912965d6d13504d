"""Tokens: signed proof of a user, so that a password is checked every five minutes, not at every request.

A token proves a user and narrows its rights to some repositories; it grants nothing. At each use the
rules are evaluated and the file of users is consulted again: a user who is removed from either, or whose
password is changed, loses access at once, not when the token expires. For that a token contains the
*generation* of the password with which it was requested, a keyed hash of the hash in that file.

They are JSON Web Tokens (RFC 7519, RFC 8037) with the claims of distribution's token specification, so that
a person can read them; only this registry verifies them. One algorithm is accepted. A scope of that
specification is a name, which may mean hosted and mirrored repositories; one more claim, `registries`, lists
for each registry the scopes that are granted there, by their position.

The key that signs them has a file of its own. It is generated where there is none, and again where the file
is damaged. Only tokens that are valid for five minutes are lost with it, so it is written without fsync.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import jwt
from cachetools import TTLCache
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mirrord.access.challenge import SERVICE
from mirrord.access.credentials import MAX_LENGTH
from mirrord.access.rules import Action
from mirrord.access.scopes import Scope
from mirrord.oci.names import RepositoryKey, RepositoryName

TOKEN_SECONDS = 300
_SKEW_SECONDS = 30
"""Tolerance for a clock that was set back after the token was issued."""

KEY_NAME = "token.key"
_KEY_MODE = 0o600

_ALGORITHM = "EdDSA"
_CLAIMS = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "generation", "access", "registries")
_MAX_VERIFIED = 1024


@attrs.frozen(kw_only=True)
class Claims:
    """The claims of a token; anonymous where `user` is None.

    `generation` is that of the user's password when the token was issued (`TokenIssuer.generation`).
    """

    user: str | None
    generation: str
    expires_at: float
    scopes: tuple[Scope, ...]

    def covers(self, name: RepositoryName, action: Action, key: RepositoryKey) -> bool:
        """Return whether a scope allows this action in a repository, which the client calls `name`."""
        return any(scope.covers(name, action, key) for scope in self.scopes)


class InvalidToken(Exception):
    """The token was not issued here, or is no longer valid; the message contains no part of it."""


@attrs.define(eq=False)
class TokenIssuer:
    """Issues and verifies tokens; `wall_clock` returns Unix seconds.

    Verifying a signature takes most of a millisecond, and a pull sends the same token many times: the claims
    of recently verified tokens are cached under the token's hash.
    """

    _key: Ed25519PrivateKey = attrs.field(repr=False)
    _wall_clock: Callable[[], float]
    _verified: TTLCache[bytes, Claims] = attrs.field(init=False, repr=False)
    _generation_key: bytes = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._verified = TTLCache(_MAX_VERIFIED, TOKEN_SECONDS, self._wall_clock)
        # Derived from the key that signs, since tokens outlive a restart.
        self._generation_key = hashlib.sha256(b"generation" + self._key.private_bytes_raw()).digest()

    def generation(self, password_hash: bytes) -> str:
        """Return the generation of a password, given its hash in the file of users; takes a microsecond."""
        return hashlib.blake2b(password_hash, key=self._generation_key, digest_size=16).hexdigest()

    def issue(self, user: str | None, scopes: Iterable[Scope], password_hash: bytes = b"") -> str:
        """Issue a token that is valid for TOKEN_SECONDS, and for as long as the user has that password."""
        now = int(self._wall_clock())
        granted = tuple(scopes)
        registries = sorted(frozenset[str]().union(*(scope.registries for scope in granted)))
        claims = {
            "iss": SERVICE,
            "sub": user or "",
            "aud": SERVICE,
            "exp": now + TOKEN_SECONDS,
            "nbf": now,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "generation": self.generation(password_hash),
            "access": [scope.claim() for scope in granted],
            "registries": {
                registry: [index for index, scope in enumerate(granted) if registry in scope.registries]
                for registry in registries
            },
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def read(self, token: str) -> Claims:
        """Verify a token and return its claims.

        Raises:
            InvalidToken: The token was not issued here, or has expired.
        """
        if len(token) > MAX_LENGTH:
            raise InvalidToken("too long")
        fingerprint = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.get(fingerprint)
        if claims is None:
            claims = self._verify(token)
            self._verified[fingerprint] = claims
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
                # Times are checked by our own clock, not the library's.
                options={
                    "require": list(_CLAIMS),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidToken("not issued by this registry") from None
        if claims["nbf"] > self._wall_clock() + _SKEW_SECONDS:
            raise InvalidToken("not valid yet")
        return Claims(
            user=claims["sub"] or None,
            generation=claims["generation"],
            expires_at=claims["exp"],
            scopes=tuple(_scopes(claims)),
        )


def _scopes(claims: dict[str, Any]) -> Iterator[Scope]:
    """Parse the scopes that were written by `issue`."""
    for index, scope in enumerate(claims["access"]):
        registries = frozenset(name for name, indexes in claims["registries"].items() if index in indexes)
        yield Scope(RepositoryName(scope["name"]), frozenset(map(Action, scope["actions"])), registries)


def open_key(folder: Path) -> Ed25519PrivateKey:
    """Read the key in this folder, or generate and store one.

    Raises:
        OSError: The key can be neither read nor written.
    """
    file = folder / KEY_NAME
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    return key if isinstance(key, Ed25519PrivateKey) else _generate_key(file)


def _generate_key(file: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = file.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _KEY_MODE), "wb") as opened:
        opened.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    scratch.replace(file)
    return key
