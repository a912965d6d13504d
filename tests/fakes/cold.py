"""Files that are not in memory, really and simulated."""

import mmap
import os
import time
from typing import Any

import attrs
from twisted.internet.defer import Deferred


def evict(fd: int, seconds: float = 5.0) -> None:
    """Remove a file from the page cache; retried, because the kernel keeps pages that something else uses."""
    os.fsync(fd)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if not any(_is_cached(fd, offset) for offset in range(0, os.fstat(fd).st_size, mmap.PAGESIZE)):
            return
        time.sleep(0.01)


def _is_cached(fd: int, offset: int) -> bool:
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except OSError:
        return False
    return True


@attrs.define(eq=False)
class ColdPages:
    """A PageCache with the first `warm_bytes` in memory; `arrive` completes the running reads."""

    warm_bytes: int = 0
    reads: list[tuple[int, int]] = attrs.field(factory=list)
    _waiting: list[Deferred[Any]] = attrs.field(factory=list)

    def has(self, fd: int, offset: int) -> bool:
        return offset < self.warm_bytes

    def warm(self, fd: int, first: int, stop: int) -> Deferred[None]:
        self.reads.append((first, stop))
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def read(self, fd: int, first: int, stop: int) -> bytes | Deferred[bytes]:
        if self.has(fd, stop - 1):
            return os.pread(fd, stop - first, first)
        return self.warm(fd, first, stop).addCallback(lambda _: os.pread(fd, stop - first, first))

    def arrive(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
