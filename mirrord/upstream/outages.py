"""OutageLogger: log the outages of an upstream.

One line when an outage begins and one when it ends, whatever the number of requests that fail and of
probes in between.
"""

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel

from mirrord.observe.events import Event
from mirrord.upstream.circuit import Circuit, CircuitState


@attrs.define(eq=False)
class OutageLogger:
    """Logs when the circuit of one upstream opens and closes, for manifest requests or for all."""

    _upstream: str
    _circuit: Circuit
    _clock: IReactorTime
    _since: dict[bool, float] = attrs.field(factory=dict, init=False)
    _log = Logger()

    def opened(self, reason: str, seconds: float, event: Event, *, manifest_gets_only: bool = False) -> None:
        """Log that the circuit is open for this long; at debug level if the outage was logged before."""
        is_known = manifest_gets_only in self._since
        self._since.setdefault(manifest_gets_only, self._clock.seconds())
        self._log.emit(
            LogLevel.debug if is_known else LogLevel.warn,
            "{upstream}: {reason}; circuit open for {what} for {seconds:.1f} s",
            upstream=self._upstream,
            reason=reason,
            what=_requests(manifest_gets_only=manifest_gets_only),
            seconds=seconds,
            event=event,
        )

    def log_recovery(self) -> None:
        """Log the outages that are over."""
        if not self._since:
            return
        now = self._clock.seconds()
        for manifest_gets_only, since in list(self._since.items()):
            if self._circuit.state(now, of_manifests=manifest_gets_only) is CircuitState.CLOSED:
                del self._since[manifest_gets_only]
                self._log.info(
                    "{upstream}: circuit closed for {what} after {seconds:.1f} s",
                    upstream=self._upstream,
                    what=_requests(manifest_gets_only=manifest_gets_only),
                    seconds=now - since,
                    event=Event.UPSTREAM_RECOVERED,
                )


def _requests(*, manifest_gets_only: bool) -> str:
    return "manifest requests" if manifest_gets_only else "all requests"
