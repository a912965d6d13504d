"""Content files that are renamed, linked or copied to another folder, perhaps on another file system.

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


def rename_content(source: Path, target: Path) -> bool | None:
    """Rename a file, replacing one of the same bytes.

    Return False if it is missing, None if `target` is on another file system: it has to be copied.

    Raises:
        OSError: The disk failed.
    """
    disk.make_folder(target.parent)
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return None
    disk.sync_folder(target.parent)
    source.unlink(missing_ok=True)  # a rename to another name of the same file does nothing
    return True


def link_content(source: Path, target: Path, scratch: Path) -> bool:
    """Give a file a second name, by way of `scratch`; return False if that is impossible, as `link_file`."""
    file = open_file(source)
    if file is None:
        return False
    with file:
        return link_file(file, source, target, scratch)


def copy_file(file: BufferedReader, target: Path, digest: Digest, scratch: Path) -> bool:
    """Copy an open file by way of `scratch`; return False if it is not what `digest` names.

    `scratch` is a name on the file system of `target`.

    Raises:
        OSError: The disk failed, or has no room; there is nothing at `scratch`, and `target` is as it was.
    """
    disk.make_folder(target.parent)
    try:
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
