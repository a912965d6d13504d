"""Health: named checks, and what they found.

A check asks what is already known (is the port open, did the last write succeed); it never waits.
"""

from collections.abc import Callable

import attrs


@attrs.frozen
class HealthCheck:
    """One thing that must be well before clients are sent here; `ask` gives None, or what is the trouble."""

    name: str
    ask: Callable[[], str | None]

    def finding(self) -> "CheckResult":
        """What it finds now. A check that breaks has found trouble, and is named by its error's kind only."""
        try:
            return CheckResult(self.name, self.ask())
        except Exception as error:  # noqa: BLE001 - whatever it is, /readyz must answer
            return CheckResult(self.name, type(error).__name__)


@attrs.frozen
class CheckResult:
    """What a check found: nothing, or some trouble in a few words without secrets."""

    name: str
    trouble: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether there is no trouble."""
        return self.trouble is None


@attrs.frozen
class Health:
    """All the checks of a daemon."""

    checks: tuple[HealthCheck, ...]

    def findings(self) -> tuple[CheckResult, ...]:
        """What every check finds now, in their order; we are ready when all of them are well."""
        return tuple(check.finding() for check in self.checks)
