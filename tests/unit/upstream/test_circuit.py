"""Tests of mirrord/upstream/circuit.py."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.errors import CircuitOpen, UpstreamBusy
from mirrord.upstream.circuit import (
    DEGRADED_SECONDS,
    MAX_OPEN_SECONDS,
    PROBE_SECONDS,
    Circuit,
    CircuitState,
)


class CircuitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.circuit = Circuit(Random(1))

    def passes(self, now: float, *, is_manifest_get: bool = False) -> bool:
        try:
            self.circuit.admit(now, is_manifest_get=is_manifest_get).abandoned()
        except (CircuitOpen, UpstreamBusy):
            return False
        return True

    def fail(self, *times: float) -> None:  # type: ignore[override]
        for now in times:
            self.circuit.admit(now, is_manifest_get=False).failed()

    def test_three_failures(self) -> None:
        """Three failures in a row reject all requests, for five seconds at most."""
        self.fail(10, 10)
        self.assertTrue(self.passes(10))
        self.fail(10)

        with self.assertRaises(CircuitOpen) as caught:
            self.circuit.admit(10.1, is_manifest_get=True)
        wait = caught.exception.retry_after_seconds
        assert wait is not None
        self.assertTrue(0 < wait < MAX_OPEN_SECONDS)
        self.assertTrue(self.passes(10 + MAX_OPEN_SECONDS))

    def test_progress_resets(self) -> None:
        """A response, or bytes of a blob, between failures keeps the circuit closed."""
        self.fail(1, 1)
        self.circuit.progressed()
        self.fail(1, 1)
        self.circuit.admit(1, is_manifest_get=False).succeeded()
        self.fail(1, 1)

        self.assertTrue(self.passes(1))

    def test_old_failures(self) -> None:
        """The failure of a request does not count if there was progress since it began."""
        tickets = [self.circuit.admit(0, is_manifest_get=False) for _ in range(5)]
        self.circuit.progressed()
        for ticket in tickets:
            ticket.failed()

        self.assertTrue(self.passes(1))

    def test_one_probe(self) -> None:
        """When its time is over an open circuit admits one request, and all after its response."""
        self.fail(0, 0, 0)
        probe = self.circuit.admit(5, is_manifest_get=False)
        self.assertFalse(self.passes(5.5))
        self.assertEqual(CircuitState.PROBING, self.circuit.state(5.5, of_manifests=False))

        probe.succeeded()
        self.assertTrue(self.passes(5.5))
        self.assertTrue(self.passes(5.5))
        self.assertEqual(CircuitState.CLOSED, self.circuit.state(5.5, of_manifests=False))

    def test_failed_probe(self) -> None:
        """A probe that fails at once opens the circuit again."""
        self.fail(0, 0, 0)
        self.circuit.admit(5, is_manifest_get=False).failed()

        self.assertFalse(self.passes(5.1))

    def test_hanging_probe(self) -> None:
        """A probe that hangs, or fails late, blocks other requests for PROBE_SECONDS only."""
        self.fail(0, 0, 0)
        hanging = self.circuit.admit(5, is_manifest_get=False)
        self.assertFalse(self.passes(5 + PROBE_SECONDS / 2))
        self.assertTrue(self.passes(5 + PROBE_SECONDS))

        hanging.failed()
        self.assertTrue(self.passes(15))

    def test_cancelled_probe(self) -> None:
        """A probe that is cancelled admits the next one."""
        self.fail(0, 0, 0)
        self.circuit.admit(5, is_manifest_get=False).abandoned()

        self.assertTrue(self.passes(5))

    def test_limited_manifests(self) -> None:
        """A 429 on a manifest GET rejects manifest GETs only."""
        ticket = self.circuit.admit(0, is_manifest_get=True)
        ticket.limited(0, 60, manifest_gets_only=True)

        with self.assertRaises(UpstreamBusy) as caught:
            self.circuit.admit(20, is_manifest_get=True)
        self.assertEqual(40, caught.exception.retry_after_seconds)
        self.assertTrue(self.passes(20))
        self.assertTrue(self.circuit.is_degraded(20, of_manifests=True))
        self.assertFalse(self.circuit.is_degraded(20, of_manifests=False))
        self.assertTrue(self.passes(60, is_manifest_get=True))

    def test_limited_all(self) -> None:
        """A 429 on any other request rejects all requests."""
        self.circuit.admit(0, is_manifest_get=False).limited(0, 60, manifest_gets_only=False)

        self.assertFalse(self.passes(59, is_manifest_get=True))
        self.assertFalse(self.passes(59))
        self.assertTrue(self.passes(60))

    def test_retry_after_is_bounded(self) -> None:
        """Retry-After counts between a second and an hour; without one it is five seconds at most."""
        ticket = self.circuit.admit(0, is_manifest_get=True)

        self.assertEqual(1, ticket.limited(0, 0, manifest_gets_only=True))
        self.assertEqual(3600, ticket.limited(0, 1e9, manifest_gets_only=True))
        self.assertLessEqual(ticket.limited(0, None, manifest_gets_only=False), MAX_OPEN_SECONDS)

    def test_limit_outlives_other_answers(self) -> None:
        """A response to a request sent before a 429 does not close the circuit."""
        earlier = self.circuit.admit(0, is_manifest_get=False)
        self.circuit.admit(0, is_manifest_get=False).limited(0, 60, manifest_gets_only=False)
        earlier.succeeded()

        self.assertFalse(self.passes(30))

    def test_degraded(self) -> None:
        """The degraded state is short, rejects nothing, and ends with a response, not with bytes."""
        self.circuit.mark_degraded(0)
        self.assertTrue(self.circuit.is_degraded(0, of_manifests=True))
        self.assertTrue(self.passes(0))
        self.assertFalse(self.circuit.is_degraded(DEGRADED_SECONDS, of_manifests=True))

        self.circuit.mark_degraded(6)
        self.circuit.progressed()
        self.assertTrue(self.circuit.is_degraded(6, of_manifests=True))
        self.circuit.admit(6, is_manifest_get=False).succeeded()
        self.assertFalse(self.circuit.is_degraded(6, of_manifests=True))

    def test_probe_ends_degraded_state(self) -> None:
        """An open circuit is degraded until a probe is due, and again while the probe is running."""
        self.fail(0, 0, 0)
        self.assertTrue(self.circuit.is_degraded(1, of_manifests=False))
        self.assertFalse(self.circuit.is_degraded(5, of_manifests=False))
        self.circuit.admit(5, is_manifest_get=False)
        self.assertTrue(self.circuit.is_degraded(5, of_manifests=False))
