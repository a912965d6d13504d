"""Service time: the seconds that this store has been in service (docs/adr/0002-service-time.md)."""

from collections.abc import Callable

import attrs


@attrs.define(eq=False)
class ServiceTime:
    """A clock that runs while the daemon does, and goes on where it stopped.

    `before` is what it showed when the store was last written; `monotonic` gives seconds that only grow.
    """

    _monotonic: Callable[[], float]
    _before: float
    _started: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self._monotonic()

    def now(self) -> float:
        """The seconds in service, of all runs together."""
        return self._before + self._monotonic() - self._started
