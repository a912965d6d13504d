"""Tests of mirrord/flight/cooperate.py."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.cooperate import cooperate, yield_to_reactor


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

    def finished(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        running = Deferred.fromCoroutine(coroutine)
        self.assertNoResult(running)
        self.clock.advance(0)
        return running
