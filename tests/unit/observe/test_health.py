"""Tests of mirrord/observe/health.py."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.health import CheckResult, Health, HealthCheck


def broken() -> str | None:
    raise OSError(28, "No space left", "/secret/path")


class HealthTests(SynchronousTestCase):
    def test_results(self) -> None:
        """Every check runs, in order, and an exception is a problem named by its type only."""
        health = Health(
            (
                HealthCheck("store", lambda: None),
                HealthCheck("port", lambda: "closed"),
                HealthCheck("disk", broken),
            )
        )
        results = health.run()
        self.assertEqual(
            results, (CheckResult("store"), CheckResult("port", "closed"), CheckResult("disk", "OSError"))
        )
        self.assertEqual([result.is_ok for result in results], [True, False, False])
