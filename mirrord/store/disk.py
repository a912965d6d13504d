"""The disk: the calls that block, the lock and the write probe of a store.

Every function here blocks, and releases the GIL while it does; the reactor calls those that can be slow
through `Threads` (threads.py).
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from mirrord.oci.digest import Hasher
from mirrord.store.layout import FILE_MODE, FOLDER_MODE, Layout
from mirrord.store.threads import Threads, shield

PROBE_SECONDS = 60.0

PROBE_TIMEOUT_SECONDS = 120.0
"""A busy SD card responds late, and large files may be queued to be hashed first."""

_READ_BYTES = 1024 * 1024

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors of a disk that has no blocks or no inodes left, for anyone or for us."""


class StoreInUse(OSError):
    """Another daemon uses this store; the message is one line for the operator."""


@attrs.define(eq=False)
class StoreLock:
    """The lock of a store: of two daemons on one store, each would evict what the other serves.

    The folder of hosted repositories has a lock of its own: it may be elsewhere. The kernel releases them
    when the daemon ends, however it ends.
    """

    _fds: tuple[int, ...]

    @classmethod
    def acquire(cls, layout: Layout) -> "StoreLock":
        """Lock a store.

        Raises:
            StoreInUse: Another daemon has locked it, or its folder of hosted repositories.
            OSError: A lock file cannot be opened.
        """
        fds: list[int] = []
        try:
            for folder in (layout.root, layout.hosted_root):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                fds.append(os.open(folder / layout.lock.name, flags, FILE_MODE))
                fcntl.flock(fds[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, BlockingIOError):
                raise StoreInUse(f"{folder} is in use by another mirrord") from None
            raise
        return cls(tuple(fds))

    def release(self) -> None:
        """Unlock the store; may be called more than once."""
        fds, self._fds = self._fds, ()
        for fd in fds:
            os.close(fd)


async def open_file(threads: Threads, path: Path, flags: int) -> int:
    """Open a file in a thread. If the caller stops waiting, it is closed again, and deleted if it is new.

    Raises:
        OSError: The disk failed.
    """
    is_awaited = True

    def returned(result: object) -> None:
        if isinstance(result, int) and not is_awaited:
            if flags & os.O_CREAT:
                threads.run(unlink_all, [path]).addErrback(lambda _: None)
            threads.close(result)

    try:
        return await shield(threads.run(os.open, path, flags | os.O_CLOEXEC, FILE_MODE), returned)
    finally:
        is_awaited = False


def close_reader(threads: Threads, fd: int) -> None:
    """Close a descriptor, in a thread if its file is deleted: the last one to be closed frees its blocks."""
    if os.fstat(fd).st_nlink:
        os.close(fd)
    else:
        threads.close(fd)


def append(fd: int, offset: int, chunk: bytes, hasher: Hasher | None = None) -> None:
    """Write all of `chunk` at `offset`, then hash it.

    Raises:
        OSError: The disk failed; the file ends at `offset` again and nothing was hashed.
    """
    try:
        write_at(fd, offset, chunk)
    except OSError:
        os.ftruncate(fd, offset)
        raise
    if hasher is not None:
        hasher.update(chunk)


def write_at(fd: int, offset: int, chunk: bytes) -> None:
    """Write all of `chunk` at `offset`; after an OSError a part of it may be there."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.pwrite(fd, rest, offset + len(chunk) - len(rest)) :]


def hash_range(fd: int, start: int, stop: int, hasher: Hasher) -> None:
    """Hash the bytes from `start` to before `stop`.

    Raises:
        OSError: The disk failed, or the file has become shorter.
    """
    while start < stop:
        chunk = os.pread(fd, min(_READ_BYTES, stop - start), start)
        if not chunk:
            raise OSError("a file has become shorter while it was hashed")
        hasher.update(chunk)
        start += len(chunk)


def commit(fd: int, name: Path, path: Path) -> None:
    """Rename the file `name`, open as `fd`, to `path`: fsync, rename, fsync of the folder, in this order.

    Raises:
        OSError: The disk failed. EIO if the fsync did: the kernel forgets that it failed, so a second one
            would succeed over bytes that are lost. It must not be retried.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(errno.EIO, f"fsync failed: {error.strerror}") from error
    make_folder(path.parent)
    name.rename(path)
    sync_folder(path.parent)


def write_committed(name: Path, path: Path, body: bytes) -> None:
    """Write `body` to `name`, then commit that as `path`; after an error neither exists."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, FILE_MODE)
        try:
            append(fd, 0, body)
            commit(fd, name, path)
        finally:
            os.close(fd)
    except OSError:
        name.unlink(missing_ok=True)
        raise


def rename(source: Path, target: Path) -> None:
    """Rename a file on its file system, durably; raises OSError if the disk failed or there is no file."""
    make_folder(target.parent)
    source.rename(target)
    sync_folder(target.parent)


def open_first(paths: Sequence[Path]) -> int:
    """Open the first of these files that exists, for reading; return its descriptor.

    Raises:
        FileNotFoundError: None does.
        OSError: The disk failed.
    """
    *others, last = paths
    for path in others:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return os.open(last, os.O_RDONLY | os.O_CLOEXEC)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each one durable in its parent."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(FOLDER_MODE, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sizes(folder: Path) -> dict[str, int]:
    """Return the size of every file in a folder; nothing if there is no such folder."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    found[entry.name] = entry.stat().st_size
    return found


def unlink_all(paths: list[Path]) -> None:
    """Delete files, of which some may be gone already; after an error the others nevertheless."""
    errors = []
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def stamp(path: Path, now: float) -> float:
    """Record that a partial file is idle from `now` on, in service time, as its mtime; return `now`.

    There a restart finds it, and no row has to be kept in step with the file.
    """
    with contextlib.suppress(OSError):
        os.utime(path, (now, now))
    return now


def read_stamp(path: Path, status: os.stat_result, now: float) -> float:
    """Return since when a file of this `status` has been idle, in service time.

    A file whose writer was killed has an mtime of the wall clock, which may just as well be 1970: it
    differs from the atime, or is ahead of service time. Such a file is stamped with `now`, so that a clock
    that is wrong, or is set, never expires a download or an upload.
    """
    is_stamped = status.st_atime_ns == status.st_mtime_ns and status.st_mtime <= now
    return status.st_mtime if is_stamped else stamp(path, now)


@attrs.define(eq=False)
class WriteProbe:
    """Checks that the store can be written.

    A byte is written to `file` in a thread now and then, without fsync: that reveals a card that has been
    pulled, a file system that the kernel has made read-only and a disk that hangs, and costs a page a minute.
    """

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
            if waited > PROBE_TIMEOUT_SECONDS:
                return f"the disk has not responded for {waited:.0f} s"
        return self._problem

    def start(self) -> None:
        """Write now, and then every minute."""
        self._loop.start(PROBE_SECONDS)

    def stop(self) -> None:
        """Stop writing."""
        if self._loop.running:
            self._loop.stop()

    def _probe(self) -> None:
        if self._started_at is None:
            self._started_at = self._clock.seconds()
            shield(self._threads.run(_touch, self._file), self._returned).addErrback(lambda _: None)

    def _returned(self, result: Failure | None) -> None:
        self._started_at = self._problem = None
        error = None if result is None else result.value
        if error is not None and not (isinstance(error, OSError) and error.errno in FULL):
            self._problem = f"the store cannot be written: {getattr(error, 'strerror', None) or error}"


def _touch(file: Path) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        os.pwrite(fd, b"\n", 0)
    finally:
        os.close(fd)
