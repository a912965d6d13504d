"""SingleFlight: concurrent callers that need the same result share one call.

The call is not tied to the caller that started it. Each caller gets a Deferred of its own, which it may
cancel without effect on the others or on the call: that runs to completion even if all have cancelled.
(With one shared Deferred, as in devpi and buildbot, one caller's cancel fails all.)
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
    """At most one running call per key."""

    _running: dict[K, list[Deferred[V]]] = attrs.field(factory=dict, init=False)

    def is_running(self, key: K) -> bool:
        """Return whether `run` would join a running call."""
        return key in self._running

    def run(self, key: K, start: Callable[[], Awaitable[V]]) -> Deferred[V]:
        """Return the result of the running call of `key`, after starting one by `start` if there is none."""
        waiter: Deferred[V] = Deferred()
        if key in self._running:
            self._running[key].append(waiter)
            return waiter
        waiters = self._running[key] = [waiter]

        async def call() -> V:
            return await start()

        def finish(result: V | Failure) -> None:
            if self._running.get(key) is waiters:
                del self._running[key]
            for each in waiters:
                each.callback(result)

        Deferred.fromCoroutine(call()).addBoth(finish)
        return waiter

    def forget(self, key: K) -> None:
        """Make the next `run` start a new call; those waiting for the running one still get its result."""
        self._running.pop(key, None)
