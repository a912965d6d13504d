"""PageCache: read files without blocking the reactor on the disk."""

import os
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

READ_AHEAD_BYTES = 4 * 1024 * 1024
"""How much a cold read requests from the kernel: for an SD card a single page takes as long."""


@attrs.frozen(eq=False)
class PageCache:
    """The kernel's page cache: what is in it is read at once, the rest in a thread of `_pool`.

    A thread has a descriptor of its own, so callers may close theirs at any time: they need not wait for a
    thread, and no thread uses a number that belongs to another file by then.
    """

    _reactor: Any
    _pool: ThreadPool

    def has(self, fd: int, offset: int) -> bool:
        """Return whether the byte at `offset` is in memory; True if the kernel does not know."""
        try:
            os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def warm(self, fd: int, first: int, stop: int) -> Deferred[None]:
        """Read the bytes from `first` to before `stop`, and some that follow, into the cache."""
        return deferToThreadPool(self._reactor, self._pool, _warm, os.dup(fd), first, stop)

    def read(self, fd: int, first: int, stop: int) -> bytes | Deferred[bytes]:
        """Return the bytes from `first` to before `stop`, fewer at the file's end; at once if in memory."""
        if self.has(fd, stop - 1):
            return os.pread(fd, stop - first, first)
        return deferToThreadPool(self._reactor, self._pool, _read, os.dup(fd), first, stop)


def _warm(own: int, first: int, stop: int) -> None:
    try:
        os.posix_fadvise(own, first, READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
        os.pread(own, 1, stop - 1)
    finally:
        os.close(own)


def _read(own: int, first: int, stop: int) -> bytes:
    try:
        os.posix_fadvise(own, first, READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
        return os.pread(own, stop - first, first)
    finally:
        os.close(own)
