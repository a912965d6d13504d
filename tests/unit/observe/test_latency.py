"""Tests of mirrord/observe/latency.py."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.latency import Latency


class LatencyTests(SynchronousTestCase):
    """A reactor that is late."""

    def setUp(self) -> None:
        self.clock, self.time, self.late = Clock(), 100.0, list[float]()
        self.latency = Latency(self.clock, lambda: self.time, self.late.append)

    def turn(self, seconds: float) -> None:
        self.time += seconds
        self.clock.advance(1)

    def test_late(self) -> None:
        """What is told is how much later than a second the reactor came, each time, and never less than 0."""
        self.latency.start()
        for seconds in (1.0, 1.25, 1.0, 0.5):
            self.turn(seconds)
        self.assertEqual([0.0, 0.25, 0.0, 0.0], self.late)

    def test_stop(self) -> None:
        """Once stopped, nothing is left behind."""
        self.latency.start()
        self.latency.stop()
        self.latency.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
