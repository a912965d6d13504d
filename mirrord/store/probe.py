"""WriteProbe: check that the store can be written.

A byte is written in a thread now and then, without fsync: that reveals a card that has been pulled, a
file system that the kernel has made read-only and a disk that hangs, and costs a page a minute.
"""

import errno
import os
from pathlib import Path

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from mirrord.store.disk import Threads
from mirrord.store.layout import FILE_MODE

INTERVAL_SECONDS = 60.0

TIMEOUT_SECONDS = 120.0
"""A busy SD card responds late, and large files may be queued to be hashed first."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@attrs.define(eq=False)
class WriteProbe:
    """Writes to `file` periodically; `trouble` is the result."""

    _file: Path
    _threads: Threads
    _clock: IReactorTime
    _problem: str | None = attrs.field(default=None, init=False)
    _started_at: float | None = attrs.field(default=None, init=False)
    _loop: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._probe)
        self._loop.clock = self._clock

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be written; None if it can, or is only full."""
        if self._started_at is not None:
            waited = self._clock.seconds() - self._started_at
            if waited > TIMEOUT_SECONDS:
                return f"the disk has not responded for {waited:.0f} s"
        return self._problem

    def start(self) -> None:
        """Write now, and then every minute."""
        self._loop.start(INTERVAL_SECONDS)

    def stop(self) -> None:
        """Stop writing."""
        if self._loop.running:
            self._loop.stop()

    def _probe(self) -> None:
        if self._started_at is None:
            self._started_at = self._clock.seconds()
            self._threads.run(_write, self._file).addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, _: object = None) -> None:
        self._started_at = self._problem = None

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self._succeeded()
        if not isinstance(error, OSError) or error.errno not in _FULL:
            self._problem = f"the store cannot be written: {getattr(error, 'strerror', None) or error}"


def _write(file: Path) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        os.pwrite(fd, b"\n", 0)
    finally:
        os.close(fd)
