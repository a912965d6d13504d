"""Deadlines: what is left of a budget, and waiting no longer than that."""

from collections.abc import Coroutine
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mirrord.oci.errors import UpstreamTimeout

T = TypeVar("T")


@attrs.frozen
class Deadline:
    """A moment after which nobody waits any more."""

    _clock: IReactorTime
    _at: float

    @classmethod
    def after(cls, clock: IReactorTime, seconds: float) -> Self:
        """The deadline so many seconds from now."""
        return cls(clock, clock.seconds() + seconds)

    @property
    def remaining_seconds(self) -> float:
        """What is left, 0 when it is over."""
        return max(0.0, self._at - self._clock.seconds())

    def within(self, seconds: float) -> "Deadline":
        """This deadline, or one so many seconds from now if that is earlier."""
        return Deadline(self._clock, min(self._at, self._clock.seconds() + seconds))

    async def wait(self, awaited: Deferred[T] | Coroutine[Any, Any, T], what: str) -> T:
        """The result of `awaited`, which is cancelled when the time is over.

        Raises:
            UpstreamTimeout: It did not come in time; `what` did not, says the message.
        """
        deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
        ran_out = False

        def run_out() -> None:
            nonlocal ran_out
            ran_out = True
            deferred.cancel()

        alarm = self._clock.callLater(self.remaining_seconds, run_out)
        try:
            return await deferred
        except Exception:
            if ran_out:
                raise UpstreamTimeout(f"the upstream is silent: {what} did not come") from None
            raise
        finally:
            if alarm.active():
                alarm.cancel()


def parse_retry_after(text: str | None, date: str | None) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); None if it says nothing.

    A moment in it is read against the same answer's Date, so that a wrong clock, ours or theirs,
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
