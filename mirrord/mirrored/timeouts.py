"""How long a client is let wait, and for what (design.md, section 3.10).

containerd gives up on headers after 30 s, docker never does; so whatever an upstream does, an
answer leaves before 25 s, and before 3 s where something held can be served instead.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")

HELD_SECONDS = 2.5
"""For an answer that something held can stand in for."""

UNHELD_SECONDS = 22.0
"""For an answer that only the upstream has."""

ASK_SECONDS = 18.0
"""For one question to an upstream, retries and all, where nothing is held."""


def pause(clock: IReactorTime, seconds: float) -> Deferred[None]:
    """Fires after `seconds`; may be cancelled."""
    pausing: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, pausing.callback, None)
    return pausing


async def with_timeout(clock: IReactorTime, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, if it comes in time; what it shares with others goes on without us.

    Raises:
        TimeoutError: It did not.
    """
    result = Deferred.fromCoroutine(work)
    result.addTimeout(seconds, clock)
    try:
        return await result
    except TimedOut:
        raise TimeoutError from None
