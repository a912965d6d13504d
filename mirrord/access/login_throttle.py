"""Attempts: how often a password may be tried.

Guessing has to be slow, and nobody may be locked out by it. So failures are counted twice, by the
network that they come from and by the user that they are about: the first slows a guesser who has one
address, the second one who has thousands. What is counted is a wait of a few seconds at most, and the
second count is not held against networks from which that user came in before; a guesser can make the
user wait at a new place only.

Whoever has to wait is kept waiting, one at a time, so that a person who has mistyped sees a slow
login and not a riddle; who comes beside them is told to come again.

An attempt is counted when it begins, and uncounted if it was right: a hundred at once would else all
begin before the first has failed. A success does not clear what failed before it, or whoever has an
account could guess at another one for ever.
"""

from collections.abc import Callable
from ipaddress import IPv6Address

import attrs

from mirrord.access.recent import Recent
from mirrord.config.addresses import parse_address
from mirrord.oci.errors import TooManyRequests

FREE_ATTEMPTS = 3
LONGEST_WAIT = 4.0
_PRESSING = 20
_FORGOTTEN_AFTER = 900.0
_REMEMBERED = 4096


@attrs.define
class _Count:
    attempts: int = 0
    waits_until: float = 0.0


@attrs.define(eq=False)
class LoginThrottle:
    """Counts attempts at passwords; `clock` gives seconds that only ever grow."""

    _clock: Callable[[], float]
    _counts: Recent[tuple[str, str], _Count] = attrs.field(init=False)
    _proven: Recent[tuple[str, str], bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = Recent(self._clock, _FORGOTTEN_AFTER, _REMEMBERED)
        self._proven = Recent(self._clock, 30 * 86_400.0, _REMEMBERED)

    def begin(self, user: str, address: str) -> float:
        """Count an attempt of a client of this address to be this user; after how many seconds it may begin.

        Raises:
            TooManyRequests: Others have to wait before it.
        """
        network = _network(address)
        is_proven = self._proven.recall((user, network)) is not None
        by_network, by_user = self._count("network", network), self._count("user", user)
        now = self._clock()
        begins_at = max(now, by_network.waits_until, 0.0 if is_proven else by_user.waits_until)
        by_network.attempts += 1
        if begins_at - now > LONGEST_WAIT:
            raise TooManyRequests("too many wrong passwords", retry_after_seconds=begins_at - now)
        by_user.attempts += 1
        for count in (by_network, by_user):
            if count.attempts > FREE_ATTEMPTS:
                count.waits_until = begins_at + _wait_after(count.attempts)
        return begins_at - now

    def succeeded(self, user: str, address: str) -> None:
        """The attempt that has begun was right."""
        network = _network(address)
        self._proven.note((user, network), True)
        for count in (self._count("network", network), self._count("user", user)):
            count.attempts -= 1
            count.waits_until = 0.0

    def is_pressing(self, address: str) -> bool:
        """Whether so many attempts fail there that somebody is guessing."""
        count = self._counts.recall(("network", _network(address)))
        return count is not None and count.attempts >= _PRESSING

    def _count(self, kind: str, name: str) -> _Count:
        count = self._counts.recall((kind, name)) or _Count()
        self._counts.note((kind, name), count)
        return count


def _wait_after(attempts: int) -> float:
    return min(LONGEST_WAIT, 2.0 ** min(attempts - FREE_ATTEMPTS - 1, 16))


def _network(address: str) -> str:
    """Where an address is counted: whoever has an IPv6 address has 2^64 of them (RFC 6177)."""
    parsed = parse_address(address)
    if parsed is None:
        return ""
    return str(int(parsed) >> 64 if isinstance(parsed, IPv6Address) else parsed)
