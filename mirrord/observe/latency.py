"""Latency: how late the reactor is.

A call is asked for every second, and comes later than that by as long as something else held the
reactor: a big hash, a slow disk, a machine that swaps. Every client waits as long. Nothing else in
the metrics tells of it.
"""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL_SECONDS = 1.0


@attrs.define(eq=False)
class Latency:
    """Tells `late`, once a second, by how many seconds the reactor came too late.

    `monotonic` is asked for the time, for the reactor's own clock is set back and forth.
    """

    _clock: IReactorTime
    _monotonic: Callable[[], float]
    _late: Callable[[float], None]
    _due: float = attrs.field(default=0.0, init=False)
    _next: IDelayedCall | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Look every second from now on."""
        self._due = self._monotonic() + INTERVAL_SECONDS
        self._next = self._clock.callLater(INTERVAL_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        self._late(max(0.0, self._monotonic() - self._due))
        self.start()
