"""Content files that are copied and hashed slice by slice, while the daemon serves clients.

A call that copied a whole layer would keep its thread for minutes, from pushes that wait for an fsync, and
would be taken for one that hangs (threads.py). So each slice is a call of its own.
"""

import contextlib
import os
from pathlib import Path

from mirrord.oci.digest import Digest, Hasher
from mirrord.store import disk
from mirrord.store.hashed_file import HASH_SLICE_BYTES, HashedFile, RunningHash
from mirrord.store.threads import Threads

COPY_SLICE_BYTES = 1024 * 1024

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


async def copy_content(threads: Threads, source: Path, target: Path, digest: Digest, scratch: Path) -> bool:
    """Copy a file by way of `scratch`; return False if it is missing, or not what `digest` names.

    Raises:
        OSError: The disk failed, or has no room; `target` is as it was.
    """
    fd = await disk.open_file(threads, scratch, _NEW)
    running = RunningHash(digest.algorithm)
    copy = HashedFile(offset=0, running=running, fd=fd, threads=threads, closed=lambda: None)
    is_copied = False
    try:
        with contextlib.suppress(FileNotFoundError):
            while chunk := await threads.read(_read_slice, source, copy.offset):
                await copy.append(chunk)
            if await copy.matches(digest):
                await copy.move(scratch, target)
                is_copied = True
    finally:
        if not is_copied:
            with contextlib.suppress(OSError):
                await copy.unlink(scratch)
        copy.release()
    return is_copied


async def is_content(threads: Threads, path: Path, digest: Digest) -> bool:
    """Return whether a file is what `digest` names; False if there is none."""
    hasher, offset = digest.hasher(), 0
    with contextlib.suppress(FileNotFoundError):
        while count := await threads.read(_hash_slice, path, offset, hasher):
            offset += count
        return hasher.hexdigest() == digest.encoded
    return False


def _read_slice(path: Path, offset: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), COPY_SLICE_BYTES, offset)


def _hash_slice(path: Path, offset: int, hasher: Hasher) -> int:
    """Hash the next slice of a file; return how many bytes that were."""
    with path.open("rb", buffering=0) as file:
        stop = min(offset + HASH_SLICE_BYTES, os.fstat(file.fileno()).st_size)
        disk.hash_range(file.fileno(), offset, stop, hasher)
    return max(0, stop - offset)
