"""Turns: long lists gone through a slice at a time, so that the reactor never waits for an operator."""

from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

T = TypeVar("T")


async def cooperate(clock: IReactorTime, slices: Iterable[T]) -> AsyncIterator[T]:
    """The items of `slices`; after each one everybody else has a turn."""
    for item in slices:
        yield item
        await deferLater(clock, 0)
