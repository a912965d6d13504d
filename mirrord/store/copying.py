"""Content files that are moved or copied from one folder to another, perhaps on another file system.

What arrives is durable and whole: a copy is hashed as it is written. Every function here blocks.

Root's process has different rights in the folder that is read and in the one that is written
(cli/ownership.py): the `Rights` of the former are for opening its files by name, which are then read by
descriptor.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from io import BufferedReader
from pathlib import Path

from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.layout import FILE_MODE

CHUNK_BYTES = 1024 * 1024

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW

Rights = Callable[[], AbstractContextManager[None]]
"""Returns a context in which this process has the rights of another user."""

HasRoom = Callable[[int], bool]
"""Returns whether so many more bytes may be used on the file system of the target."""


def move_content(source: Path, target: Path, digest: Digest, scratch: Path, has_room: HasRoom) -> bool:
    """Move a file, replacing one of the same bytes; return False if it is missing or not what `digest` names.

    `scratch` is a name on the file system of `target`. Interrupted, the file is at one of the two places.

    Raises:
        OSError: The disk failed, or has no room for a copy (ENOSPC); the file is where it was.
    """
    disk.make_folder(target.parent)
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if not copy_content(source, target, digest, scratch, has_room):
            return False
    else:
        disk.sync_folder(target.parent)
    source.unlink(missing_ok=True)  # a rename to another name of the same file does nothing
    return True


def link_content(source: Path, target: Path, digest: Digest, scratch: Path, has_room: HasRoom) -> bool:
    """Give a file a second name, replacing a file, or copy it where that is impossible.

    Return and raise as `move_content`.
    """
    file = open_file(source)
    if file is None:
        return False
    with file:
        return link_file(file, source, target, scratch) or copy_file(file, target, digest, scratch, has_room)


def copy_content(source: Path, target: Path, digest: Digest, scratch: Path, has_room: HasRoom) -> bool:
    """Copy a file by way of `scratch`; return False if it is missing, or not what `digest` names.

    Raises:
        OSError: The disk failed, or has no room; there is nothing at `scratch`, and `target` is as it was.
    """
    file = open_file(source)
    if file is None:
        return False
    with file:
        return copy_file(file, target, digest, scratch, has_room)


def copy_file(file: BufferedReader, target: Path, digest: Digest, scratch: Path, has_room: HasRoom) -> bool:
    """Copy an open file; return and raise as `copy_content`."""
    disk.make_folder(target.parent)
    try:
        if not has_room(os.fstat(file.fileno()).st_size):
            raise OSError(errno.ENOSPC, f"no room for a copy of {digest}")
        with os.fdopen(os.open(scratch, _NEW, FILE_MODE), "wb", buffering=0) as copy:
            hasher, offset = digest.hasher(), 0
            while chunk := file.read(CHUNK_BYTES):
                disk.write_at(copy.fileno(), offset, chunk)
                hasher.update(chunk)
                offset += len(chunk)
            is_whole = hasher.hexdigest() == digest.encoded
            if is_whole:
                disk.commit(copy.fileno(), scratch, target)
        if not is_whole:
            scratch.unlink()
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return is_whole


def link_file(file: BufferedReader, source: Path, target: Path, scratch: Path) -> bool:
    """Give an open file, found as `source`, a second name, replacing a file; return False if that fails.

    For instance because it is on another file system, or `source` names another file by now.
    """
    disk.make_folder(target.parent)
    scratch.unlink(missing_ok=True)
    try:
        scratch.hardlink_to(source)
    except OSError:
        return False
    if not os.path.samestat(scratch.lstat(), os.fstat(file.fileno())):
        scratch.unlink()
        return False
    disk.commit(file.fileno(), scratch, target)
    scratch.unlink(missing_ok=True)  # a rename to another name of the same file does nothing
    return True


def open_file(path: Path, as_reader: Rights = nullcontext) -> BufferedReader | None:
    """Open a file for reading; return None if it is missing, or a symbolic link."""
    try:
        with as_reader():
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return None
        raise
    return os.fdopen(fd, "rb")


def is_whole(path: Path, digest: Digest) -> bool:
    """Return whether a file is what `digest` names; False if there is none."""
    try:
        with path.open("rb") as file:
            return matches(file, digest)
    except FileNotFoundError:
        return False


def matches(file: BufferedReader, digest: Digest) -> bool:
    """Return whether an open file, read from where it is, is what `digest` names."""
    return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.encoded
