"""WriteProbe: can the store be written?

A byte is written in a thread now and then, without fsync: a card that has been pulled, a file system
that the kernel has made read-only and a disk that hangs all show then, and it costs a page a minute.
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

PATIENCE_SECONDS = 120.0
"""An SD card that is busy answers late, and a queue of large files to be hashed is before us."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@attrs.define(eq=False)
class WriteProbe:
    """Writes to `file` again and again; `trouble` says what came of it."""

    _file: Path
    _threads: Threads
    _clock: IReactorTime
    _found: str | None = attrs.field(default=None, init=False)
    _asked_at: float | None = attrs.field(default=None, init=False)
    _loop: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._loop = LoopingCall(self._ask)
        self._loop.clock = self._clock

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be written; None where it can, or is only full."""
        if self._asked_at is not None:
            waited = self._clock.seconds() - self._asked_at
            if waited > PATIENCE_SECONDS:
                return f"the disk has not answered for {waited:.0f} s"
        return self._found

    def start(self) -> None:
        """Write now, and then every minute."""
        self._loop.start(INTERVAL_SECONDS)

    def stop(self) -> None:
        """Write no more."""
        if self._loop.running:
            self._loop.stop()

    def _ask(self) -> None:
        if self._asked_at is None:
            self._asked_at = self._clock.seconds()
            self._threads.run(_write, self._file).addCallbacks(self._answered, self._failed)

    def _answered(self, _: object = None) -> None:
        self._asked_at = self._found = None

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self._answered()
        if not isinstance(error, OSError) or error.errno not in _FULL:
            self._found = f"the store cannot be written: {getattr(error, 'strerror', None) or error}"


def _write(file: Path) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        os.pwrite(fd, b"\n", 0)
    finally:
        os.close(fd)
