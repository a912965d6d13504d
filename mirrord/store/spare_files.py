"""SpareFiles: files without a name, also on a file system that has no inode left.

Content that is not kept is written to a file without a name, and that needs an inode. Other programs may
have taken all of them: then a mirror with terabytes free could pass nothing through. So a few empty files
are created in advance. Without another inode, one of them is opened and loses its name; when the stream has
ended its inode is free, and becomes a spare file again.

They have names, unlike open descriptors, so that a restart finds what the run before it had: they are
deleted before the index is opened, which needs two files, and are created again after it.

Counting the readers of a stream and truncating its file after the last would keep every inode, but each
download would have to account for descriptors that others close.
"""

import contextlib
import errno
import os
import tempfile
from collections import deque
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from mirrord.store import disk
from mirrord.store.layout import FILE_MODE, FOLDER_MODE
from mirrord.store.threads import Threads

SPARE_FILES = 64
"""As many as there are downloads at a time."""

_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


@attrs.define(eq=False, kw_only=True)
class SpareFiles:
    """The spare files in `folder`, and files without a name in `scratch`, on the same file system."""

    _folder: Path
    _scratch: Path
    _threads: Threads
    _spare: deque[Path] = attrs.field(factory=deque, init=False)
    _missing: deque[Path] = attrs.field(init=False)
    _filling: set[Deferred[None]] = attrs.field(factory=set, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._missing = deque(self._folder / str(number) for number in range(SPARE_FILES))

    def open_unnamed(self) -> int:
        """Return the descriptor of an empty file without a name. Blocks; close it by `close`.

        Raises:
            OSError: The disk failed, or there are neither inodes nor spare files.
        """
        try:
            return _open_unnamed(self._scratch)
        except OSError as error:
            if error.errno not in disk.FULL:
                raise
            try:
                path = self._spare.popleft()
            except IndexError:
                raise error from None
        self._missing.append(path)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            path.unlink()
        except OSError:
            os.close(fd)
            raise
        return fd

    def close(self, fd: int) -> None:
        """Close a descriptor soon, and create the spare files that are missing if that has freed an inode."""
        self._threads.close(fd).addCallback(lambda _: self.fill())

    def fill(self) -> None:
        """Create the spare files that are missing soon, as many as possible."""
        if self._missing and not self._is_stopped:
            filling = self._threads.run(self._create_missing).addErrback(lambda _: None)
            self._filling.add(filling)
            filling.addCallback(lambda _: self._filling.discard(filling))

    async def stop(self) -> None:
        """Create no more files, and wait for those that are being created."""
        self._is_stopped = True
        for filling in list(self._filling):
            await filling

    def _create_missing(self) -> None:
        self._folder.mkdir(FOLDER_MODE, exist_ok=True)
        # Other threads may do the same: each takes the paths that it creates.
        while self._missing:
            path = self._missing.popleft()
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE))
            except OSError:
                self._missing.append(path)
                raise
            self._spare.append(path)


def delete_spare_files(folder: Path) -> None:
    """Delete what an earlier run left."""
    with contextlib.suppress(FileNotFoundError):
        disk.unlink_all(list(folder.iterdir()))


def _open_unnamed(folder: Path) -> int:
    """Open a file without a name; some file systems lack O_TMPFILE."""
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    fd, name = tempfile.mkstemp(prefix="unnamed-", dir=folder)
    Path(name).unlink()
    return fd
