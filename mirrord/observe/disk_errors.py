"""Errors of a failing disk in the log: one line for each cause and minute, however many requests fail."""

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

INTERVAL_SECONDS = 60.0
_MAX_CAUSES = 64


@attrs.define(eq=False)
class _Cause:
    """A cause that was logged at a time of the clock, and how often it occurred since."""

    logged_at: float
    repeated: int = 0


@attrs.define(eq=False)
class DiskErrorLog:
    """Logs errors by their cause; the next line of the same cause has the number of those in between."""

    _clock: IReactorTime
    _causes: dict[str, _Cause] = attrs.field(factory=dict, init=False)
    _log = Logger()

    def report(self, error: OSError, consequence: str) -> None:
        """Log an error of the disk with its consequence, unless its cause was logged in the last minute."""
        reason, now = error.strerror or str(error), self._clock.seconds()
        cause = self._causes.get(reason)
        if cause is not None and now - cause.logged_at < INTERVAL_SECONDS:
            cause.repeated += 1
            return
        repeated = f"; {cause.repeated} more errors since the last line" if cause and cause.repeated else ""
        if len(self._causes) >= _MAX_CAUSES:
            self._causes.clear()
        self._causes[reason] = _Cause(now)
        self._log.error(
            "{consequence}: {reason}{repeated}", consequence=consequence, reason=reason, repeated=repeated
        )
