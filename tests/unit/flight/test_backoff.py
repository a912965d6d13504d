"""Tests of mirrord/flight/backoff.py."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.backoff import backoff_seconds, jitter


class BackoffTests(SynchronousTestCase):
    def wait(self, attempt: int, random: float = 1.0) -> float:
        return backoff_seconds(attempt, first=0.25, longest=4.0, random=lambda: random)

    def test_doubled(self) -> None:
        """The wait doubles from the first to the longest, and never overflows."""
        waits = [self.wait(attempt) for attempt in (1, 2, 3, 4, 5, 6, 10_000)]
        self.assertEqual(waits, [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0])

    def test_jitter(self) -> None:
        """Half of a wait is fixed, the other half is random."""
        self.assertEqual([jitter(8.0, lambda: 0.0), jitter(8.0, lambda: 0.5)], [4.0, 6.0])
        self.assertEqual(self.wait(3, random=0.0), 0.5)
