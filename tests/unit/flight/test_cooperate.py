"""Tests of mirrord/flight/cooperate.py."""

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.cooperate import cooperate, run_in_slices, yield_to_reactor

T = TypeVar("T")


class CooperateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def test_yield(self) -> None:
        """What was due before runs first."""
        order: list[str] = []
        self.clock.callLater(0, order.append, "earlier")
        yielding = yield_to_reactor(self.clock)
        yielding.addCallback(lambda _: order.append("after"))
        self.assertNoResult(yielding)
        self.clock.advance(0)
        self.assertEqual(["earlier", "after"], order)

    def test_slices(self) -> None:
        """Between two slices everything else that is due runs."""
        order: list[str] = []

        async def run() -> None:
            async for item in cooperate(self.clock, iter("abc")):
                self.clock.callLater(0, order.append, "other")
                order.append(item)

        self.successResultOf(self.finished(run()))
        self.assertEqual(["a", "other", "b", "other", "c", "other"], order)

    def test_generator(self) -> None:
        """A generator runs to its end, and its result is returned."""
        order: list[str] = []

        def work() -> Generator[None, None, int]:
            self.clock.callLater(0, order.append, "other")
            order.append("slice")
            yield
            order.append("slice")
            return 7

        self.assertEqual(7, self.successResultOf(self.finished(run_in_slices(self.clock, work()))))
        self.assertEqual(["slice", "other", "slice"], order)

    def finished(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        running = Deferred.fromCoroutine(coroutine)
        self.assertNoResult(running)
        self.clock.advance(0)
        return running
