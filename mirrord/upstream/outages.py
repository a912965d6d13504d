"""Outages: what is told of an upstream that fails.

That is one line when it begins and one when it is over, whatever the number of those who wait for it
and of the probes in between that failed.
"""

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel

from mirrord.observe.events import Event
from mirrord.upstream.circuit import Circuit, CircuitState


@attrs.define(eq=False)
class OutageLogger:
    """The times at which one upstream is not asked, for manifests or for anything."""

    _upstream: str
    _circuit: Circuit
    _clock: IReactorTime
    _since: dict[bool, float] = attrs.field(factory=dict, init=False)
    _log = Logger()

    def began(self, reason: str, seconds: float, event: Event, *, manifest_gets_only: bool = False) -> None:
        """It is not asked for so long; that is told at debug where it is known to fail."""
        is_known = manifest_gets_only in self._since
        self._since.setdefault(manifest_gets_only, self._clock.seconds())
        self._log.emit(
            LogLevel.debug if is_known else LogLevel.warn,
            "{upstream}: {reason}; it is not asked for {what} for {seconds:.1f} s",
            upstream=self._upstream,
            reason=reason,
            what=_what(manifest_gets_only=manifest_gets_only),
            seconds=seconds,
            event=event,
        )

    def look(self) -> None:
        """Tell what is over."""
        if not self._since:
            return
        now = self._clock.seconds()
        for manifest_gets_only, since in list(self._since.items()):
            if self._circuit.state(now, of_manifests=manifest_gets_only) is CircuitState.CLOSED:
                del self._since[manifest_gets_only]
                self._log.info(
                    "{upstream} is asked for {what} again, after {seconds:.1f} s",
                    upstream=self._upstream,
                    what=_what(manifest_gets_only=manifest_gets_only),
                    seconds=now - since,
                    event=Event.UPSTREAM_RECOVERED,
                )


def _what(*, manifest_gets_only: bool) -> str:
    return "manifests" if manifest_gets_only else "anything"
