"""Health: named checks and their results.

A check looks at what is already known (whether a port is open, whether the last write succeeded); it never
waits.
"""

from collections.abc import Callable

import attrs


@attrs.frozen
class CheckResult:
    """The result of a check: no problem, or one in a few words without secrets."""

    name: str
    problem: str | None = None

    @property
    def is_ok(self) -> bool:
        """Return whether there is no problem."""
        return self.problem is None


@attrs.frozen
class HealthCheck:
    """A condition for sending clients here; `find_problem` returns None or the problem."""

    name: str
    find_problem: Callable[[], str | None]

    def run(self) -> CheckResult:
        """Run the check. If it raises an exception, the problem is the type of that."""
        try:
            return CheckResult(self.name, self.find_problem())
        except Exception as error:  # noqa: BLE001 - whatever it is, /readyz must answer
            return CheckResult(self.name, type(error).__name__)


@attrs.frozen
class Health:
    """All checks of a daemon."""

    checks: tuple[HealthCheck, ...]

    def run(self) -> tuple[CheckResult, ...]:
        """Run every check, in order; the daemon is ready if all of them are OK."""
        return tuple(check.run() for check in self.checks)
