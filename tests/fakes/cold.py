"""Files that are not in memory, really and simulated."""

import os
from typing import Any

import attrs
from twisted.internet.defer import Deferred


def evict(fd: int) -> None:
    """Evict a file's pages from the page cache, as far as they are on the disk."""
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


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
