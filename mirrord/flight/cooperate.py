"""Work on the reactor in slices, so that no request waits for all of it."""

from collections.abc import AsyncIterator, Generator, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

T = TypeVar("T")


def yield_to_reactor(clock: IReactorTime) -> Deferred[None]:
    """Fire in the next iteration of the reactor, after everything else that was due."""
    return deferLater(clock, 0)


async def cooperate(clock: IReactorTime, slices: Iterable[T]) -> AsyncIterator[T]:
    """Iterate over `slices` and yield to the reactor after each one."""
    for item in slices:
        yield item
        await yield_to_reactor(clock)


async def run_in_slices(clock: IReactorTime, work: Generator[None, None, T]) -> T:
    """Return what `work` returns; yield to the reactor whenever it yields."""
    while True:
        try:
            next(work)
        except StopIteration as finished:
            result: T = finished.value
            return result
        await yield_to_reactor(clock)
