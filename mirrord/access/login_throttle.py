"""Login throttling: how often a password may be tried.

Guessing must be slow without locking any user out. So failures are counted twice, by the network that they
come from and by the user name: the first count slows an attacker with one address, the second one with
thousands. The penalty is a delay of a few seconds at most, and the second count does not apply to networks
from which that user has logged in before: an attacker can delay the user at a new place only. A login that
was proven a short time ago does not come here at all (proven_logins.py).

A delayed attempt is kept waiting, one at a time, so that a person who has mistyped sees a slow login rather
than an unexplained error; concurrent attempts are rejected with 429 and Retry-After. These are not counted:
no password was checked, and clients that retry would never get through.

An attempt is counted when it begins, and subtracted if it succeeds: otherwise a hundred concurrent ones
would all begin before the first has failed. A success does not reset earlier failures: otherwise the
owner of one account could guess at another without limit.

A count decays by one in DECAY_SECONDS. It is stored as the time at which it will be zero (as in the generic
cell rate algorithm), so nothing has to run for that, and the order of two counts never changes. That makes a
full table safe: the smallest counts are forgotten first. If it forgot the least recently used, an
attacker could have his own count forgotten by failing once under each of a few thousand other names; so he
has to fail as often under every one of these.
"""

import hashlib
from collections.abc import Callable
from heapq import nsmallest
from math import ceil
from typing import Generic, TypeVar

import attrs

from mirrord.oci.errors import TooManyRequests

K = TypeVar("K", str, bytes)

FREE_ATTEMPTS = 3
MAX_DELAY = 4.0
MAX_FAILURES = 15
"""The largest count: a quarter of an hour after the last failure nothing is left."""

DECAY_SECONDS = 60.0
MAX_ENTRIES = 4096
_FORGOTTEN = MAX_ENTRIES // 16
"""Entries that a full table forgets together, since finding the smallest takes about a millisecond."""


@attrs.define(eq=False)
class FailureCount:
    """The failures of one user or network, as the time at which they will have decayed.

    The next attempt may begin at `free_at`.
    """

    zero_at: float = 0.0
    free_at: float = 0.0

    def add(self, begins_at: float, now: float) -> "CountedFailure":
        """Count an attempt that begins then."""
        before, free_before = max(self.zero_at, now), self.free_at
        self.zero_at = min(before + DECAY_SECONDS, now + MAX_FAILURES * DECAY_SECONDS)
        failures = ceil(round((self.zero_at - now) / DECAY_SECONDS, 6))
        if failures > FREE_ATTEMPTS:
            delay = min(MAX_DELAY, 2.0 ** (failures - FREE_ATTEMPTS - 1))
            self.free_at = max(self.free_at, begins_at + delay)
        return CountedFailure(self, self.zero_at - before, free_before, self.free_at)


@attrs.frozen(eq=False)
class CountedFailure:
    """The part of an attempt in a count: the seconds that it added, and `free_at` before and after."""

    _count: FailureCount
    _seconds: float
    _free_before: float
    _free_after: float

    def subtract(self) -> None:
        """Undo it; the delay only if no other attempt has been counted since."""
        self._count.zero_at -= self._seconds
        if self._count.free_at == self._free_after:
            self._count.free_at = self._free_before


@attrs.define(eq=False)
class FailureTable(Generic[K]):
    """At most MAX_ENTRIES counts; the smallest ones are forgotten first."""

    _counts: dict[K, FailureCount] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._counts)

    def free_at(self, name: K) -> float:
        """Return when the next attempt may begin."""
        count = self._counts.get(name)
        return 0.0 if count is None else count.free_at

    def count(self, name: K) -> FailureCount:
        """Return a count to add to."""
        count = self._counts.get(name)
        if count is None:
            if len(self._counts) >= MAX_ENTRIES:
                self._forget()
            count = self._counts[name] = FailureCount()
        return count

    def _forget(self) -> None:
        for name in nsmallest(_FORGOTTEN, self._counts, key=lambda each: self._counts[each].zero_at):
            del self._counts[name]


@attrs.frozen(eq=False)
class LoginAttempt:
    """An attempt to log in, which may begin after `delay` seconds. It counts as a failure."""

    delay: float
    _parts: tuple[CountedFailure, ...]

    def subtract(self) -> None:
        """Count it no more: the password is correct, or was not checked. Call this once."""
        for part in self._parts:
            part.subtract()


@attrs.define(eq=False)
class LoginThrottle:
    """Delays attempts at passwords; `clock` returns monotonic seconds."""

    _clock: Callable[[], float]
    _networks: FailureTable[str] = attrs.field(factory=FailureTable, init=False)
    _users: FailureTable[bytes] = attrs.field(factory=FailureTable, init=False)

    def begin(self, username: str, network: str, *, is_known: bool) -> LoginAttempt:
        """Count an attempt to log in.

        `is_known` is whether this user has logged in from this network before.

        Raises:
            TooManyRequests: Delayed attempts are waiting already. This one is not counted.
        """
        # Clients send names of any length; the table's memory is bounded.
        user = hashlib.blake2b(username.encode(), digest_size=16).digest()
        now = self._clock()
        begins_at = max(now, self._networks.free_at(network))
        if not is_known:
            begins_at = max(begins_at, self._users.free_at(user))
        delay = begins_at - now
        if delay > MAX_DELAY:
            raise TooManyRequests("too many wrong passwords", retry_after_seconds=delay)
        counts = self._networks.count(network), self._users.count(user)
        return LoginAttempt(delay, tuple(count.add(begins_at, now) for count in counts))
