"""Login throttling: how often a password may be tried.

Guessing must be slow without locking any user out. So failures are counted twice, by the network that they
come from and by the user name: the first count slows an attacker with one address, the second one with
thousands. The penalty is a delay of a few seconds at most, and the second count does not apply to networks
from which that user has logged in before: an attacker can delay the user at a new place only.

A delayed attempt is kept waiting, one at a time, so that a person who has mistyped sees a slow login rather
than an unexplained error; concurrent attempts are rejected with 429 and Retry-After.

An attempt is counted when it begins, and subtracted if it succeeds: otherwise a hundred concurrent ones
would all begin before the first has failed. A success does not reset earlier failures: otherwise the
owner of one account could guess at another without limit.
"""

from collections.abc import Callable
from ipaddress import IPv6Address

import attrs
from cachetools import TTLCache

from mirrord.config.addresses import parse_address
from mirrord.oci.errors import TooManyRequests

FREE_ATTEMPTS = 3
MAX_DELAY = 4.0
_ATTACK_ATTEMPTS = 20
_COUNT_SECONDS = 900.0
_KNOWN_SECONDS = 30 * 86_400.0
MAX_ENTRIES = 4096


@attrs.define
class _Count:
    attempts: int = 0
    delayed_until: float = 0.0


@attrs.define(eq=False)
class LoginThrottle:
    """Delays attempts at passwords; `clock` returns monotonic seconds."""

    _clock: Callable[[], float]
    _counts: TTLCache[tuple[str, str], _Count] = attrs.field(init=False)
    _known: TTLCache[tuple[str, str], bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = TTLCache(MAX_ENTRIES, _COUNT_SECONDS, self._clock)
        self._known = TTLCache(MAX_ENTRIES, _KNOWN_SECONDS, self._clock)

    def begin(self, user: str, address: str) -> float:
        """Count an attempt to log in as this user; return the seconds for which to delay it.

        Raises:
            TooManyRequests: Delayed attempts are waiting already.
        """
        network = _network(address)
        is_known = (user, network) in self._known
        by_network, by_user = self._count("network", network), self._count("user", user)
        now = self._clock()
        begins_at = max(now, by_network.delayed_until, 0.0 if is_known else by_user.delayed_until)
        by_network.attempts += 1
        if begins_at - now > MAX_DELAY:
            raise TooManyRequests("too many wrong passwords", retry_after_seconds=begins_at - now)
        by_user.attempts += 1
        for count in (by_network, by_user):
            if count.attempts > FREE_ATTEMPTS:
                count.delayed_until = begins_at + _delay_after(count.attempts)
        return begins_at - now

    def succeeded(self, user: str, address: str) -> None:
        """Subtract an attempt that has succeeded."""
        network = _network(address)
        self._known[user, network] = True
        for count in (self._count("network", network), self._count("user", user)):
            count.attempts -= 1
            count.delayed_until = 0.0

    def is_under_attack(self, address: str) -> bool:
        """Return whether so many attempts fail from this network that passwords are being guessed."""
        count = self._counts.get(("network", _network(address)))
        return count is not None and count.attempts >= _ATTACK_ATTEMPTS

    def _count(self, kind: str, name: str) -> _Count:
        count = self._counts.get((kind, name)) or _Count()
        self._counts[kind, name] = count
        return count


def _delay_after(attempts: int) -> float:
    return min(MAX_DELAY, 2.0 ** min(attempts - FREE_ATTEMPTS - 1, 16))


def _network(address: str) -> str:
    """Return the network of an address; a client with an IPv6 address has 2^64 of them (RFC 6177)."""
    parsed = parse_address(address)
    if parsed is None:
        return ""
    return str(int(parsed) >> 64 if isinstance(parsed, IPv6Address) else parsed)
