"""The tokens of a fake registry, and its accounts."""

import base64
import binascii
from collections import Counter

import attrs
from twisted.internet.interfaces import IReactorTime


@attrs.frozen
class Token:
    """The scopes, the account and the expiry of a token."""

    scopes: frozenset[str]
    account: str | None
    expires_at: float


@attrs.define(eq=False)
class Tokens:
    """All tokens that were issued, and how often each scope was requested."""

    _clock: IReactorTime
    lifetime_seconds: int = 300
    per_scope: Counter[str] = attrs.field(factory=Counter, init=False)
    _count: int = attrs.field(default=0, init=False)
    _issued: dict[str, Token] = attrs.field(factory=dict, init=False)

    def issue(self, scopes: frozenset[str], account: str | None) -> str:
        """Issue a token for `scopes`."""
        self._count += 1
        name = f"token-{self._count}-{'x' * 64}"
        self._issued[name] = Token(scopes, account, self._clock.seconds() + self.lifetime_seconds)
        self.per_scope.update(scopes)
        return name

    def revoke(self) -> None:
        """Revoke all tokens."""
        self._issued.clear()

    def is_good(self, authorization: str | None, scope: str | None) -> bool:
        """Return whether a header authorizes `scope` (None: any valid token does)."""
        scheme, _, name = (authorization or "").partition(" ")
        token = self._issued.get(name)
        return (
            scheme.lower() == "bearer"
            and token is not None
            and token.expires_at > self._clock.seconds()
            and (scope is None or scope in token.scopes)
        )


def account_of(authorization: str | None, accounts: dict[str, str]) -> str | None:
    """Return the account of a Basic header, if it is one of `accounts`."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name if name in accounts and accounts[name] == password else None
