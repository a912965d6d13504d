"""Meter: how much of what we wrote the client really took.

A write that the kernel accepts says little: its send buffer grows to megabytes, and wakes us only
when a third of it is free, so that a phone-line client looks dead for minutes. What the kernel
still holds (SIOCOUTQ) is asked instead: bytes handed over less bytes held are bytes acknowledged,
and they move whenever the client reads.
"""

import fcntl
import struct
import termios
from typing import Any

from twisted.internet import tcp, unix

_INT = struct.Struct("i")


class AckMeter:
    """Mixed into a server transport of Twisted's, before it: counts what the kernel took."""

    fileno: Any
    dataBuffer: bytes
    _tempDataLen: int
    handed_over = 0

    def writeSomeData(self, data: bytes) -> Any:
        """Write, and count."""
        count = super().writeSomeData(data)  # type: ignore[misc]
        if isinstance(count, int) and count > 0:
            self.handed_over += count
        return count

    def progress(self) -> tuple[int, bool]:
        """The bytes that the client has acknowledged, and whether some wait that it has not."""
        held = _INT.unpack(fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
        return self.handed_over - held, held > 0 or self.is_writing()

    @property
    def is_opening(self) -> bool:
        """Whether something stands before the first byte of HTTP: a PROXY header, a handshake of TLS."""
        return False

    def is_writing(self) -> bool:
        """Whether bytes wait that the kernel has not taken."""
        return bool(self.dataBuffer or self._tempDataLen)


class MeteredUnixServer(AckMeter, unix.Server):
    """A client's connection over a Unix socket."""


class MeteredServer(AckMeter, tcp.Server):
    """A client's connection over TCP."""
