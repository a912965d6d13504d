"""Deadlines and retries: repeat a request that may succeed later, within a time budget."""

from collections.abc import Awaitable, Callable, Coroutine
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any, Self, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mirrord.flight.backoff import backoff_seconds
from mirrord.oci.errors import AccountRefused, UpstreamError, UpstreamTimeout

T = TypeVar("T")

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 4.0
MIN_ATTEMPT_SECONDS = 0.2
"""With less than this left of the budget after a wait, there is no further attempt."""


@attrs.frozen
class Deadline:
    """The time at which a budget is used up."""

    _clock: IReactorTime
    _at: float

    @classmethod
    def after(cls, clock: IReactorTime, seconds: float) -> Self:
        """Return the deadline this many seconds from now."""
        return cls(clock, clock.seconds() + seconds)

    @property
    def remaining_seconds(self) -> float:
        """The time left, 0 after the deadline."""
        return max(0.0, self._at - self._clock.seconds())

    def within(self, seconds: float) -> "Deadline":
        """Return this deadline, or the one this many seconds from now if that is earlier."""
        return Deadline(self._clock, min(self._at, self._clock.seconds() + seconds))

    async def wait(self, awaited: Deferred[T] | Coroutine[Any, Any, T], what: str) -> T:
        """Return the result of `awaited`, which is cancelled at the deadline.

        Raises:
            UpstreamTimeout: It did not arrive in time; the message names it as `what`.
        """
        deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
        has_timed_out = False

        def time_out() -> None:
            nonlocal has_timed_out
            has_timed_out = True
            deferred.cancel()

        timer = self._clock.callLater(self.remaining_seconds, time_out)
        try:
            return await deferred
        except Exception:
            if has_timed_out:
                raise UpstreamTimeout(f"timeout waiting for {what} from the upstream") from None
            raise
        finally:
            if timer.active():
                timer.cancel()


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    deadline: Deadline,
    clock: IReactorTime,
    random: Random,
    final: tuple[type[UpstreamError], ...] = (AccountRefused,),
    retried: Callable[[], None] = lambda: None,
) -> T:
    """Return the first result of `call` in at most `attempts` attempts; a `final` error is not retried.

    `retried` is called before each attempt but the first. The waits in between grow exponentially, with
    jitter, and are at least as long as the upstream's Retry-After; an error whose wait would end beyond
    the deadline is raised at once.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except UpstreamError as error:
            wait = backoff_seconds(
                attempt, first=FIRST_WAIT_SECONDS, longest=MAX_WAIT_SECONDS, random=random.random
            )
            wait = max(wait, error.retry_after_seconds or 0.0)
            is_last = attempt >= attempts or deadline.remaining_seconds - wait < MIN_ATTEMPT_SECONDS
            if is_last or isinstance(error, final):
                raise
        await deferLater(clock, wait)
        retried()


def parse_retry_after(text: str | None, date: str | None) -> float | None:
    """Parse a Retry-After header into seconds (RFC 9110, section 10.2.3); None if it is invalid.

    A date in it is compared with the Date of the same response, so that a wrong clock on either side
    makes no difference.
    """
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(date or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, wait.total_seconds())
