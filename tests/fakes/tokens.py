"""Tokens of a fake registry, and the accounts that may have them."""

import base64
import binascii
from collections import Counter

import attrs
from twisted.internet.interfaces import IReactorTime


@attrs.frozen
class Token:
    """What a token is good for, for whom, and until when."""

    scopes: frozenset[str]
    account: str | None
    expires_at: float


@attrs.define(eq=False)
class Tokens:
    """All tokens that were issued, and how often each scope was asked for."""

    _clock: IReactorTime
    lifetime_seconds: int = 300
    per_scope: Counter[str] = attrs.field(factory=Counter, init=False)
    _count: int = attrs.field(default=0, init=False)
    _issued: dict[str, Token] = attrs.field(factory=dict, init=False)

    def issue(self, scopes: frozenset[str], account: str | None) -> str:
        """A new token, good for `scopes`."""
        self._count += 1
        name = f"token-{self._count}-{'x' * 64}"
        self._issued[name] = Token(scopes, account, self._clock.seconds() + self.lifetime_seconds)
        self.per_scope.update(scopes)
        return name

    def revoke(self) -> None:
        """No token is good any more, whatever it promised."""
        self._issued.clear()

    def is_good(self, authorization: str | None, scope: str | None) -> bool:
        """Whether this header lets its bearer do what `scope` (None: nothing in particular) says."""
        scheme, _, name = (authorization or "").partition(" ")
        token = self._issued.get(name)
        return (
            scheme.lower() == "bearer"
            and token is not None
            and token.expires_at > self._clock.seconds()
            and (scope is None or scope in token.scopes)
        )


def account_of(authorization: str | None, accounts: dict[str, str]) -> str | None:
    """The account that a Basic header proves to be, if it is one of `accounts`."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name if name in accounts and accounts[name] == password else None
