"""Files: what is done to the disk in a thread. Each call blocks, and lets go of the GIL while it does."""

import contextlib
import errno
import os
from pathlib import Path

from mirrord.oci.digest import Hasher
from mirrord.store.layout import FILE_MODE, FOLDER_MODE

_READ_BYTES = 1024 * 1024


def append(fd: int, offset: int, chunk: bytes, hasher: Hasher) -> None:
    """Write all of `chunk` at `offset`, then hash it.

    Raises:
        OSError: The disk refused; the file ends at `offset` again and nothing was hashed.
    """
    append_unhashed(fd, offset, chunk)
    hasher.update(chunk)


def append_unhashed(fd: int, offset: int, chunk: bytes) -> None:
    """Write all of `chunk` at `offset`.

    Raises:
        OSError: The disk refused; the file ends at `offset` again.
    """
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[os.pwrite(fd, rest, offset + len(chunk) - len(rest)) :]
    except OSError:
        os.ftruncate(fd, offset)
        raise


def hash_range(fd: int, start: int, stop: int, hasher: Hasher) -> None:
    """Hash what is written from `start` to before `stop`.

    Raises:
        OSError: The disk refused, or the file has become shorter.
    """
    while start < stop:
        chunk = os.pread(fd, min(_READ_BYTES, stop - start), start)
        if not chunk:
            raise OSError("a partial has become shorter while it was read")
        hasher.update(chunk)
        start += len(chunk)


def commit(fd: int, name: Path, path: Path) -> None:
    """Make the file `name`, open as `fd`, be `path`: whole on the disk before it has that name.

    Raises:
        OSError: The disk refused. EIO where it was the fsync: the kernel forgets that it failed, so
            a second one would succeed over bytes that are lost. It must not be tried again.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(errno.EIO, f"fsync failed: {error.strerror}") from error
    make_folder(path.parent)
    name.rename(path)
    sync_folder(path.parent)


def write(path: Path, body: bytes) -> None:
    """Write a new file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)


def write_committed(name: Path, path: Path, body: bytes) -> None:
    """Write `body` as `name`, then make that be `path`; on an error neither is there."""
    try:
        write(name, body)
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            commit(fd, name, path)
        finally:
            os.close(fd)
    except OSError:
        name.unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each one durable in the one above."""
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


def read(path: Path, max_bytes: int) -> bytes:
    """The first `max_bytes` of a file, all of it as a rule."""
    with path.open("rb") as file:
        return file.read(max_bytes)


def sizes(folder: Path) -> dict[str, int]:
    """The size of every file in a folder; nothing where there is no such folder."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                if file.is_file(follow_symlinks=False):
                    found[file.name] = file.stat().st_size
    return found


def unlink_all(paths: list[Path]) -> None:
    """Delete files; those that are gone already are no error."""
    for path in paths:
        path.unlink(missing_ok=True)
