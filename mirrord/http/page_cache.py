"""Pages: reading files without making the reactor wait for a disk."""

import os
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

READ_AHEAD_BYTES = 4 * 1024 * 1024
"""How much of a file a cold read asks the kernel for: an SD card is as slow for one page."""


@attrs.frozen(eq=False)
class PageCache:
    """The page cache: what is in it is read at once, the rest in a thread of `_pool`.

    A thread reads a descriptor of its own, so whoever asked may close theirs at any time: nobody has
    to wait for a thread, and no thread can meet a number that names another file by then.
    """

    _reactor: Any
    _pool: ThreadPool

    def has(self, fd: int, offset: int) -> bool:
        """Whether the byte at `offset` can be read without waiting; True where the kernel cannot tell."""
        try:
            os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def warm(self, fd: int, first: int, stop: int) -> Deferred[None]:
        """Have the bytes from `first` to before `stop` read into the cache, and some more after them."""
        return deferToThreadPool(self._reactor, self._pool, _warm, os.dup(fd), first, stop)

    def read(self, fd: int, first: int, stop: int) -> bytes | Deferred[bytes]:
        """The bytes from `first` to before `stop`, fewer at the file's end; at once where nobody waits."""
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
