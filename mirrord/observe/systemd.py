"""Notify: what the service manager is told of us, sd_notify(3).

Each message is one datagram to the socket that NOTIFY_SOCKET names; without one, nobody is told. It never
waits and never fails: a manager that does not read is no reason to serve nobody.
"""

import contextlib
import socket
from collections.abc import Mapping

import attrs


@attrs.frozen
class Notifier:
    """Tells systemd how the daemon does. `address` is a path, or a name that begins with `@`."""

    address: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """The one that the environment of a service names."""
        return cls(environment.get("NOTIFY_SOCKET") or None)

    def ready(self) -> None:
        """Requests are answered; after `reloading` also: that is over."""
        self._tell("READY=1")

    def reloading(self, monotonic_seconds: float) -> None:
        """The configuration is being read again, since this moment of CLOCK_MONOTONIC."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic_seconds * 1e6)}")

    def stopping(self) -> None:
        """The drain has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """What `systemctl status` shows, in one line."""
        self._tell(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        """The watchdog may wait for another interval."""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if self.address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.setblocking(False)
            told.sendto(message.encode(), "\0" + self.address[1:] if self.address[0] == "@" else self.address)


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """How long systemd waits for `alive` before it restarts us; None where it does not wait at all."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    given = environment.get("WATCHDOG_USEC", "")
    return int(given) / 1e6 if given.isascii() and given.isdigit() and int(given) else None
