"""Tests of mirrord/upstream/deadline.py."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.upstream.deadline import parse_retry_after


class RetryAfterTests(SynchronousTestCase):
    def test_seconds_and_dates(self) -> None:
        """Seconds are taken as they are, a date as its distance from the answer's own Date."""
        date = "Sat, 21 Nov 2026 10:00:00 GMT"
        self.assertEqual(60, parse_retry_after(" 60 ", None))
        self.assertEqual(90, parse_retry_after("Sat, 21 Nov 2026 10:01:30 GMT", date))
        self.assertEqual(0, parse_retry_after("Sat, 21 Nov 2026 09:00:00 GMT", date))

    def test_nonsense(self) -> None:
        """What is neither says nothing."""
        for text in [None, "", "soon", "-1", "1.5", "²"]:
            self.assertIsNone(parse_retry_after(text, "Sat, 21 Nov 2026 10:00:00 GMT"), text)
        self.assertIsNone(parse_retry_after("Sat, 21 Nov 2026 10:01:30 GMT", None))
