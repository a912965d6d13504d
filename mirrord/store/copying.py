"""Content files that are moved or copied from one folder to another, perhaps on another file system.

What arrives is durable and whole: a copy is hashed as it is written. Every function here blocks.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.layout import FILE_MODE

CHUNK_BYTES = 1024 * 1024

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})
"""Why a file cannot have a second name: another file system, or one that has no links, or another owner."""


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
        source.unlink(missing_ok=True)
        return True
    disk.sync_folder(target.parent)
    return True


def link_content(source: Path, target: Path, digest: Digest, scratch: Path, has_room: HasRoom) -> bool:
    """Give a file a second name, or copy it where that is impossible; return and raise as `move_content`."""
    disk.make_folder(target.parent)
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        return False
    except FileExistsError:
        return True
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return copy_content(source, target, digest, scratch, has_room)
    disk.sync_folder(target.parent)
    return True


def copy_content(source: Path, target: Path, digest: Digest, scratch: Path, has_room: HasRoom) -> bool:
    """Copy a file by way of `scratch`; return False if it is missing, or not what `digest` names.

    Raises:
        OSError: The disk failed, or has no room; there is nothing at `scratch`, and `target` is as it was.
    """
    disk.make_folder(target.parent)
    try:
        if not has_room(source.stat().st_size):
            raise OSError(errno.ENOSPC, f"no room for a copy of {digest}")
        with (
            source.open("rb") as file,
            os.fdopen(os.open(scratch, _NEW, FILE_MODE), "wb", buffering=0) as copy,
        ):
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
    except FileNotFoundError:
        return False
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return is_whole


def is_whole(path: Path, digest: Digest) -> bool:
    """Return whether a file is what `digest` names; False if there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.encoded
    except FileNotFoundError:
        return False
