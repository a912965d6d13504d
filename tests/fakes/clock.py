"""A clock for tests in which nothing else runs on the reactor."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock


class ImmediateClock(Clock):
    """A clock that runs calls without a delay at once, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.yields = 0

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - Twisted's name
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        call = super().callLater(delay, callable, *args, **kw)
        if delay == 0:
            self.yields += 1
            self.advance(0)
        return call
