"""Health: named checks and what they find."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.health import CheckResult, Health, HealthCheck


def broken() -> str | None:
    raise OSError(28, "No space left", "/secret/path")


class HealthTests(SynchronousTestCase):
    def test_findings(self) -> None:
        """Every check is asked, in order, and a broken one is trouble of which only the kind is told."""
        health = Health(
            (
                HealthCheck("store", lambda: None),
                HealthCheck("port", lambda: "closed"),
                HealthCheck("disk", broken),
            )
        )
        findings = health.findings()
        self.assertEqual(
            findings, (CheckResult("store"), CheckResult("port", "closed"), CheckResult("disk", "OSError"))
        )
        self.assertEqual([finding.is_well for finding in findings], [True, False, False])
