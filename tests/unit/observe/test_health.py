"""Health: named checks and what they find."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.health import Check, Finding, Health


def broken() -> str | None:
    raise OSError(28, "No space left", "/secret/path")


class HealthTests(SynchronousTestCase):
    def test_findings(self) -> None:
        """Every check is asked, in order, and a broken one is trouble of which only the kind is told."""
        health = Health(
            (Check("store", lambda: None), Check("port", lambda: "closed"), Check("disk", broken))
        )
        findings = health.findings()
        self.assertEqual(findings, (Finding("store"), Finding("port", "closed"), Finding("disk", "OSError")))
        self.assertEqual([finding.is_well for finding in findings], [True, False, False])
