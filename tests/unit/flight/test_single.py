"""Tests of mirrord/flight/single.py."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.single import SingleFlight


class SingleFlightTests(SynchronousTestCase):
    """One call per key, one Deferred per caller."""

    def setUp(self) -> None:
        self.flight: SingleFlight[str, int] = SingleFlight()
        self.calls: list[Deferred[int]] = []

    def start(self) -> Deferred[int]:
        self.calls.append(Deferred())
        return self.calls[-1]

    def test_one_call(self) -> None:
        """Callers during a running call get its result, and no second call is made."""
        waiters = [self.flight.run("key", self.start) for _ in range(3)]
        self.calls[0].callback(7)

        self.assertEqual([7, 7, 7], [self.successResultOf(waiter) for waiter in waiters])
        self.assertEqual(1, len(self.calls))

    def test_keys_are_independent(self) -> None:
        """Calls of different keys run at the same time."""
        self.flight.run("one", self.start)
        self.flight.run("two", self.start)

        self.assertEqual(2, len(self.calls))

    def test_again_after_the_end(self) -> None:
        """A result is not cached: a caller after the end starts a new call."""
        self.flight.run("key", self.start)
        self.calls[0].callback(1)
        second = self.flight.run("key", self.start)

        self.assertNoResult(second)
        self.assertEqual(2, len(self.calls))

    def test_again_while_firing(self) -> None:
        """A caller that runs the key again from inside its callback starts a new call."""
        again: list[Deferred[int]] = []
        self.flight.run("key", self.start).addCallback(
            lambda _: again.append(self.flight.run("key", self.start))
        )
        self.calls[0].callback(1)

        self.assertNoResult(again[0])

    def test_failure_reaches_all(self) -> None:
        """A failed call fails every caller."""
        waiters = [self.flight.run("key", self.start) for _ in range(2)]
        self.calls[0].errback(ValueError())

        for waiter in waiters:
            self.failureResultOf(waiter, ValueError)

    def test_failure_before_the_first_wait(self) -> None:
        """A call that fails synchronously fails its caller and is not left running."""

        async def fail() -> int:
            raise ValueError

        self.failureResultOf(self.flight.run("key", fail), ValueError)
        self.assertFalse(self.flight.is_running("key"))

    def test_cancel(self) -> None:
        """A caller that cancels affects neither the others nor the call."""
        cancelled, waiting = (self.flight.run("key", self.start) for _ in range(2))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)

        self.assertFalse(self.calls[0].called)
        self.calls[0].callback(5)
        self.assertEqual(5, self.successResultOf(waiting))

    def test_all_cancel(self) -> None:
        """A call whose callers have all cancelled still runs to completion."""
        waiter = self.flight.run("key", self.start)
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)

        self.assertTrue(self.flight.is_running("key"))
        self.calls[0].callback(5)
        self.assertFalse(self.flight.is_running("key"))

    def test_forget(self) -> None:
        """A forgotten call still serves its callers but no new ones, and does not end its successor."""
        first = self.flight.run("key", self.start)
        self.flight.forget("key")
        second = self.flight.run("key", self.start)
        self.calls[0].callback(1)

        self.assertEqual(1, self.successResultOf(first))
        self.assertTrue(self.flight.is_running("key"))
        self.calls[1].callback(2)
        self.assertEqual(2, self.successResultOf(second))
