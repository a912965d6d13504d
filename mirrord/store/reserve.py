"""The reserve: space in which the index can be opened on a full disk.

SQLite needs room for its log to open a file, and before the index is open nothing can be evicted. So a disk
that others have filled would keep a mirror from starting that could have made room for itself. Therefore a
file keeps some space: it is deleted where the disk is too full to open the index, and created again by a
later start that has room for it.
"""

import contextlib
import errno
import os
from pathlib import Path

from twisted.logger import Logger

from mirrord.store import disk, recovery
from mirrord.store.layout import FILE_MODE, Layout
from mirrord.store.recovery import OpenIndex

RESERVE_BYTES = 1024 * 1024
"""The log of the index, before it is written back to the file (schema.py)."""

_LEAST_FREE_BYTES = 32 * RESERVE_BYTES
"""With less, nothing is reserved."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = disk.FULL | {errno.EIO}
"""SQLite reports an I/O error where a file of its own cannot grow."""

_log = Logger()


def open_index(layout: Layout) -> OpenIndex:
    """Open the index, if necessary in the space that is reserved, and reserve it again if possible.

    Raises:
        OSError: As `recovery.open_index`; ENOSPC names the folder whose file system is full.
    """
    try:
        opened = _open(layout)
    except OSError as error:
        if error.errno != errno.ENOSPC or not layout.reserve.exists():
            raise
        layout.reserve.unlink()
        opened = _open(layout)
        _log.warn("the disk is full: the index was opened in the space reserved for it")
    else:
        _reserve(layout.reserve)
    return opened


def _open(layout: Layout) -> OpenIndex:
    try:
        return recovery.open_index(layout)
    except OSError as error:
        for folder in (layout.root, layout.hosted_root):
            if error.errno in _FULL and _free_bytes(folder) < RESERVE_BYTES:
                raise OSError(errno.ENOSPC, f"no space left on device, free some: {folder}") from error
        raise


def _reserve(path: Path) -> None:
    if path.exists() or _free_bytes(path.parent) < _LEAST_FREE_BYTES:
        return
    with contextlib.suppress(OSError):
        fd = os.open(path, _NEW, FILE_MODE)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError:
            path.unlink()
        finally:
            os.close(fd)


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
