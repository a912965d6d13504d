"""Heartbeat: the watchdog is fed while the reactor turns and the store can be written.

That the reactor turns needs no test: a reactor that hangs does not beat. The store may hang where the
reactor does not, for its writes are made in threads; so what the store says is asked before each beat.
A watchdog that is not fed restarts the daemon, which cures a disk that was mounted anew or a thread
that is stuck. It does not cure a full disk, and a mirror on a full disk still serves; so that is no
trouble here (store/probe.py).
"""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mirrord.observe.systemd import Notifier

IDLE_SECONDS = 10.0
"""Between two beats where no watchdog waits: how old `systemctl status` may be."""


@attrs.define(eq=False)
class Heartbeat:
    """Tells the service manager, again and again, that we live, and how we do in a line of `describe`.

    `watchdog_seconds` is how long the watchdog waits, None without one: we beat three times as often.
    `trouble` says what a restart might cure.
    """

    _notifier: Notifier
    _clock: IReactorTime
    _watchdog_seconds: float | None
    _trouble: Callable[[], str | None]
    _describe: Callable[[], str]
    _loop: LoopingCall = attrs.field(init=False)
    _told: str | None = attrs.field(default=None, init=False)
    _known_trouble: str | None = attrs.field(default=None, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._beat)
        self._loop.clock = self._clock

    def start(self) -> None:
        """Beat now, and then again and again."""
        self._loop.start(min(IDLE_SECONDS, (self._watchdog_seconds or IDLE_SECONDS * 3) / 3))

    def stop(self) -> None:
        """Beat no more."""
        if self._loop.running:
            self._loop.stop()

    def _beat(self) -> None:
        trouble = self._trouble()
        if trouble is None:
            self._notifier.alive()
        elif trouble != self._known_trouble:
            self._log.error("the watchdog is not fed: {trouble}", trouble=trouble)
        self._known_trouble = trouble
        told = self._describe()
        if told != self._told:
            self._told = told
            self._notifier.status(told)
