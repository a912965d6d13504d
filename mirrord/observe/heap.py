"""Heap: memory that a crowd has left goes back to the system.

A thousand TLS handshakes leave 70 MiB that are free and still ours: the C library keeps pages between
those in use, and gives them back only when it is told to. So it is told once a minute, which takes it
a millisecond or two. Where the C library knows no `malloc_trim` (musl), it needs no telling.
"""

import ctypes
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

INTERVAL_SECONDS = 60.0


def malloc_trim() -> None:
    """Give the system back what is free."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@attrs.define(eq=False)
class Heap:
    """Calls `trim` once a minute."""

    _clock: IReactorTime
    _trim: Callable[[], None] = malloc_trim
    _loop: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._trim)
        self._loop.clock = self._clock

    def start(self) -> None:
        """Begin, a minute from now."""
        self._loop.start(INTERVAL_SECONDS, now=False)

    def stop(self) -> None:
        """Do it no more."""
        if self._loop.running:
            self._loop.stop()
