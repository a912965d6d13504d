"""The lock of a store: two daemons must not share one, each would evict what the other serves."""

import fcntl
import os

import attrs

from mirrord.store.layout import FILE_MODE, Layout


class StoreInUse(OSError):
    """Another daemon uses this store; the message is one line for the operator."""


@attrs.define(eq=False)
class StoreLock:
    """A lock that the kernel lets go of when the daemon ends, however it ends."""

    _fd: int

    @classmethod
    def acquire(cls, layout: Layout) -> "StoreLock":
        """Lock a store.

        Raises:
            StoreInUse: Another daemon has it.
            OSError: The lock file cannot be opened.
        """
        fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise StoreInUse(f"{layout.root} is in use by another mirrord") from None
        return cls(fd)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._fd)
