"""Single flight: many who want the same thing at the same time, one who gets it.

The call belongs to nobody. Each who asks gets a Deferred of their own, which they may cancel
without harm to the others or to the call: it runs to its end even when all have gone. (One
shared Deferred, as devpi and buildbot have it, lets one waiter's cancel fail everybody.)
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@attrs.define(eq=False)
class SingleFlight(Generic[K, V]):
    """At most one running call a key."""

    _running: dict[K, list[Deferred[V]]] = attrs.field(factory=dict, init=False)

    def is_running(self, key: K) -> bool:
        """Whether a `run` of this key would join a call."""
        return key in self._running

    def run(self, key: K, start: Callable[[], Awaitable[V]]) -> Deferred[V]:
        """The result of the running call of `key`; `start` begins one if there is none."""
        waiter: Deferred[V] = Deferred()
        waiters = self._running.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return waiter
        waiters = self._running[key] = [waiter]

        async def call() -> V:
            return await start()

        def land(result: V | Failure) -> None:
            self._land(key, waiters, result)

        Deferred.fromCoroutine(call()).addBoth(land)
        return waiter

    def forget(self, key: K) -> None:
        """Let the next `run` begin a call of its own; who waits for the running one still gets its result."""
        self._running.pop(key, None)

    def _land(self, key: K, waiters: list[Deferred[V]], result: V | Failure) -> None:
        if self._running.get(key) is waiters:
            del self._running[key]
        for waiter in waiters:
            waiter.callback(result)
