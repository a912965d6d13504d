"""Notification of systemd: sd_notify(3), and the watchdog.

Each message is one datagram to the socket that NOTIFY_SOCKET names; without that, nothing is sent. Sending
neither blocks nor fails: a service manager that does not read is no reason to stop serving.

The watchdog is notified while the reactor runs and the store can be written. That the reactor runs needs no
check: a reactor that hangs sends nothing. The store may hang while the reactor does not, because its writes
are made in threads; so its state is checked before each notification. A watchdog that is not notified
restarts the daemon, which helps after a disk was remounted or a thread got stuck. It does not help with a
full disk, and a mirror on a full disk still serves; so that counts as no problem here (store/disk.py).
"""

import contextlib
import socket
from collections.abc import Callable, Mapping

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

IDLE_SECONDS = 10.0
"""The interval without a watchdog: the maximum age of the status line of `systemctl status`."""


@attrs.frozen
class Notifier:
    """Sends the state of the daemon to systemd. `address` is a path, or a name that begins with `@`."""

    address: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """Return the notifier for the environment of a service."""
        return cls(environment.get("NOTIFY_SOCKET") or None)

    def ready(self) -> None:
        """Notify that requests are answered; after `reloading`, that the reload is complete."""
        self._send("READY=1")

    def reloading(self, monotonic_seconds: float) -> None:
        """Notify that a reload has begun at this time of CLOCK_MONOTONIC."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic_seconds * 1e6)}")

    def stopping(self) -> None:
        """Notify that the drain has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the status line of `systemctl status`."""
        self._send(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        """Reset the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(
                message.encode(), "\0" + self.address[1:] if self.address[0] == "@" else self.address
            )


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """Return the time between two `alive` after which systemd restarts us; None without a watchdog."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    given = environment.get("WATCHDOG_USEC", "")
    return int(given) / 1e6 if given.isascii() and given.isdigit() and int(given) else None


@attrs.define(eq=False, kw_only=True)
class Heartbeat:
    """Notifies systemd at intervals that the daemon is alive, with a status line from `describe`.

    `watchdog_seconds` is the watchdog's timeout, None without one; the interval is a third of it.
    `find_problem` returns a problem that a restart might solve, or None.
    """

    _notifier: Notifier
    _clock: IReactorTime
    _watchdog_seconds: float | None
    _find_problem: Callable[[], str | None]
    _describe: Callable[[], str]
    _loop: LoopingCall = attrs.field(init=False)
    _status: str | None = attrs.field(default=None, init=False)
    _problem: str | None = attrs.field(default=None, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._beat)
        self._loop.clock = self._clock

    def start(self) -> None:
        """Notify now, and then at every interval."""
        self._loop.start(min(IDLE_SECONDS, (self._watchdog_seconds or IDLE_SECONDS * 3) / 3))

    def stop(self) -> None:
        """Stop notifying."""
        if self._loop.running:
            self._loop.stop()

    def _beat(self) -> None:
        problem = self._find_problem()
        if problem is None:
            self._notifier.alive()
        elif problem != self._problem:
            self._log.error("systemd watchdog not notified: {problem}", problem=problem)
        self._problem = problem
        status = self._describe()
        if status != self._status:
            self._status = status
            self._notifier.status(status)
