"""Proven logins: which users have logged in from where, and with which password.

A password that was found correct is remembered for an hour after its last use, for the network that it came
from. It is accepted without a check, and so without a delay, however many wrong ones arrive meanwhile: a
client that was logged in stays so while somebody guesses at the same address, or behind the same proxy.

The price: guesses at a remembered password, from the same network, are limited by the rate of requests alone.
Whatever answers a correct password at once among wrong ones has to pay it, and it is why a password is
remembered for its own network only (ADR 0020). What is remembered is a keyed hash, made with the hash in the
file of users, so that a changed password is forgotten.

Only a correct password adds an entry. When there are too many, the user with the most loses the oldest one:
the owner of one account cannot make it forget the logins of others.
"""

from collections import OrderedDict
from collections.abc import Callable

import attrs

PROVEN_SECONDS = 3600.0
"""A password is remembered for this long after its last use."""

KNOWN_SECONDS = 30 * 86_400.0
"""A user is known in a network for this long after the last login from there."""

MAX_ENTRIES = 8192


@attrs.define(eq=False)
class _Login:
    fingerprint: bytes = attrs.field(repr=False)
    used_at: float


@attrs.define(eq=False)
class ProvenLogins:
    """The logins of each user by network, oldest first; `clock` returns monotonic seconds."""

    _clock: Callable[[], float]
    _users: dict[str, OrderedDict[str, _Login]] = attrs.field(factory=dict, init=False)
    _total: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        return self._total

    def is_proven(self, username: str, network: str, fingerprint: bytes) -> bool:
        """Return whether this password was found correct recently, and remember it for longer if so."""
        login = self._find(username, network, PROVEN_SECONDS)
        if login is None or login.fingerprint != fingerprint:
            return False
        login.used_at = self._clock()
        self._users[username].move_to_end(network)
        return True

    def is_known(self, username: str, network: str) -> bool:
        """Return whether the user has logged in from this network before."""
        return self._find(username, network, KNOWN_SECONDS) is not None

    def add(self, username: str, network: str, fingerprint: bytes) -> None:
        """Remember a password that was found correct."""
        logins = self._users.setdefault(username, OrderedDict())
        self._total -= len(logins)
        logins[network] = _Login(fingerprint, self._clock())
        logins.move_to_end(network)
        self._total += len(logins)
        if self._total > MAX_ENTRIES:
            self._forget_one()

    def _find(self, username: str, network: str, seconds: float) -> _Login | None:
        logins = self._users.get(username)
        login = None if logins is None else logins.get(network)
        return None if login is None or self._clock() - login.used_at >= seconds else login

    def _forget_one(self) -> None:
        username = max(self._users, key=lambda each: len(self._users[each]))
        logins = self._users[username]
        logins.popitem(last=False)
        self._total -= 1
        if not logins:
            del self._users[username]
