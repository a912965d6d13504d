"""Periodic work: measuring the latency of the reactor, and returning free memory to the system."""

import ctypes
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

LATENCY_INTERVAL_SECONDS = 1.0
TRIM_INTERVAL_SECONDS = 60.0


@attrs.define(eq=False)
class ReactorLatency:
    """Calls `observe` once a second with the delay of the reactor in seconds.

    A call scheduled for the next second comes later by as long as something blocked the reactor: a large
    hash, a slow disk, a machine that swaps. Every client waits as long, and no other metric shows it.
    `monotonic` returns the time, because the reactor's own clock may be set back and forth.
    """

    _clock: IReactorTime
    _monotonic: Callable[[], float]
    _observe: Callable[[float], None]
    _due: float = attrs.field(default=0.0, init=False)
    _next: IDelayedCall | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Measure every second from now on."""
        self._due = self._monotonic() + LATENCY_INTERVAL_SECONDS
        self._next = self._clock.callLater(LATENCY_INTERVAL_SECONDS, self._measure)

    def stop(self) -> None:
        """Stop measuring."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _measure(self) -> None:
        self._observe(max(0.0, self._monotonic() - self._due))
        self.start()


def malloc_trim() -> None:
    """Return free memory to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@attrs.define(eq=False)
class HeapTrimmer:
    """Calls `trim` once a minute.

    A thousand TLS handshakes leave 70 MiB that are free but not returned: the C library keeps pages between
    those in use until `malloc_trim` is called, which takes a millisecond or two. A C library without it
    (musl) needs none.
    """

    _clock: IReactorTime
    _trim: Callable[[], None] = malloc_trim
    _loop: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._trim)
        self._loop.clock = self._clock

    def start(self) -> None:
        """Trim every minute, the first time in a minute."""
        self._loop.start(TRIM_INTERVAL_SECONDS, now=False)

    def stop(self) -> None:
        """Stop trimming."""
        if self._loop.running:
            self._loop.stop()
