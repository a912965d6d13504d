"""Tests of mirrord/upstream/retry.py, over a network in memory."""

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.errors import (
    ManifestUnknown,
    UpstreamBusy,
    UpstreamRefused,
    UpstreamTimeout,
)
from mirrord.upstream.circuit import CircuitState
from mirrord.upstream.retry import parse_retry_after
from tests.unit.upstream.cases import DIGEST, MANIFEST, ClientTestCase
from tests.unit.upstream.scripted import (
    Hang,
    Reply,
)


class RetryTests(ClientTestCase):
    def test_passing_failure(self) -> None:
        """A transient failure is retried after a wait, as often as allowed."""
        self.use(Reply(503), Refused(), MANIFEST)
        fetching = self.begin(self.fetch(attempts=3))
        self.assertEqual(1, len(self.agent.requests))
        self.clock.pump([0.25, 0.5])
        self.assertEqual(DIGEST, self.successResultOf(fetching).digest)

        self.use(Reply(503), Reply(502), Reply(503))
        fetching = self.begin(self.fetch(attempts=2))
        self.clock.pump([1, 1])
        self.failureResultOf(fetching, UpstreamRefused)
        self.assertEqual(2, len(self.agent.requests))

    def test_definite(self) -> None:
        """A definite error is not retried."""
        self.use(Reply(404))
        self.failure(self.fetch(attempts=3), ManifestUnknown)

    def test_retry_after(self) -> None:
        """A Retry-After within the budget is waited for; one beyond it fails the call at once."""
        self.use(Reply(429, {"Retry-After": "3"}), MANIFEST)
        fetching = self.begin(self.fetch(attempts=3))
        self.clock.advance(2.9)
        self.assertEqual(1, len(self.agent.requests))
        self.clock.advance(0.1)
        self.successResultOf(fetching)

        self.use(Reply(429, {"Retry-After": "30"}))
        error = self.failure(self.fetch(attempts=3), UpstreamBusy)
        self.assertEqual(30, error.retry_after_seconds)

    def test_hanging(self) -> None:
        """A request without a response times out after ten seconds and is retried."""
        self.use(Hang(), MANIFEST)
        fetching = self.begin(self.fetch(attempts=3))
        self.clock.advance(9.9)
        self.assertEqual(1, len(self.agent.requests))
        self.clock.pump([0.1, 0.5])
        self.successResultOf(fetching)

    def test_budget(self) -> None:
        """No call takes longer than its budget, however many requests hang."""
        self.use(*[Hang()] * 9)
        resolving = self.begin(self.resolve(budget_seconds=2.5, attempts=9))
        self.clock.pump([0.1] * 26)
        self.failureResultOf(resolving, UpstreamTimeout)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """A cancelled call cancels its request, is not retried, and does not count as a failure."""
        for _ in range(5):
            self.use(Hang())
            resolving = self.begin(self.resolve(attempts=3))
            resolving.cancel()
            self.failureResultOf(resolving, CancelledError)
            self.assertEqual([], self.clock.getDelayedCalls())
            self.assertEqual(1, len(self.agent.requests))
        self.assertEqual(CircuitState.CLOSED, self.client.status().others)


class RetryAfterTests(SynchronousTestCase):
    def test_seconds_and_dates(self) -> None:
        """Seconds are used as they are, a date as its distance from the Date of the response."""
        date = "Sat, 21 Nov 2026 10:00:00 GMT"
        self.assertEqual(60, parse_retry_after(" 60 ", None))
        self.assertEqual(90, parse_retry_after("Sat, 21 Nov 2026 10:01:30 GMT", date))
        self.assertEqual(0, parse_retry_after("Sat, 21 Nov 2026 09:00:00 GMT", date))

    def test_nonsense(self) -> None:
        """Anything else is ignored."""
        for text in [None, "", "soon", "-1", "1.5", "²"]:
            self.assertIsNone(parse_retry_after(text, "Sat, 21 Nov 2026 10:00:00 GMT"), text)
        self.assertIsNone(parse_retry_after("Sat, 21 Nov 2026 10:01:30 GMT", None))
