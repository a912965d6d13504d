"""How long a client waits, and for what (docs/architecture.md, invariant 10).

containerd waits 30 s for headers, docker indefinitely. So a response starts within 25 s whatever the upstream
does, and within 3 s if cached content can be served instead.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")

CACHED_SECONDS = 2.5
"""The timeout of a response that cached content can replace."""

UNCACHED_SECONDS = 22.0
"""The timeout of a response that only the upstream has."""

SLOT_SECONDS = 20.0
"""The timeout of a client whose download waits for a slot; the response starts in UNCACHED_SECONDS."""

REQUEST_SECONDS = 18.0
"""The timeout of one request to an upstream, with its retries, if nothing is cached."""


def sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    """Return a Deferred that fires after `seconds`; may be cancelled."""
    sleeping: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, sleeping.callback, None)
    return sleeping


async def with_timeout(clock: IReactorTime, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work` if it finishes in time; a flight that it has joined continues.

    Raises:
        TimeoutError: It does not.
    """
    result = Deferred.fromCoroutine(work)
    result.addTimeout(seconds, clock)
    try:
        return await result
    except TimedOut:
        raise TimeoutError from None
