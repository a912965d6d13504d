"""Partials: the uncommitted bytes of blobs, each a file that grows.

A chunk is written and hashed in one hop to a thread. What an earlier run left is hashed again before
anything is added, in slices, so that ten gigabytes of it do not hold a thread that others wait for.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import attrs

from mirrord.oci.digest import Digest, Hasher
from mirrord.store import disk
from mirrord.store.disk import Threads
from mirrord.store.hops import ThreadedFile

HASH_SLICE_BYTES = 16 * 1024 * 1024


@attrs.define(eq=False)
class PartialFile:
    """The file of one download; `path` is None where it has no name and will not be kept.

    `committed` is told when it has become the blob `target`, `ended` whenever it is let go: both
    once, and on the reactor.
    """

    digest: Digest
    path: Path | None
    target: Path
    offset: int
    _fd: int
    _threads: Threads
    _committed: Callable[["PartialFile"], None]
    _ended: Callable[["PartialFile"], None]
    _hasher: Hasher = attrs.field(init=False)
    _hashed: int = attrs.field(default=0, init=False)
    _hops: ThreadedFile = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._hops = ThreadedFile(self._fd, self._threads, lambda: self._ended(self))
        self._hasher = self.digest.hasher()

    @property
    def is_kept(self) -> bool:
        """Whether `commit` will keep it; if not, the file has no name and goes with its last reader."""
        return self.path is not None

    def open_reader(self) -> int:
        """A file descriptor of the caller's own, to read with offsets; the caller closes it.

        Raises:
            OSError: There are no more descriptors.
        """
        return os.dup(self._hops.fd)

    async def write(self, chunk: bytes) -> None:
        """Append and hash; on return `offset` has grown by all of `chunk`.

        Raises:
            OSError: The disk refused, ENOSPC for one; `offset` is as before and the write may be tried again.
        """
        await self._catch_up()

        def grew() -> None:
            self.offset += len(chunk)
            self._hashed += len(chunk)

        await self._hops.run(grew, disk.append, self._hops.fd, self.offset, chunk, self._hasher)

    async def is_verified(self) -> bool:
        """Whether the bytes so far are what the digest names.

        Raises:
            OSError: What an earlier run left cannot be read.
        """
        await self._catch_up()
        return self._hasher.hexdigest() == self.digest.encoded

    async def commit(self) -> None:
        """Make it a blob: fsync, rename, fsync of the folder, index. Nothing where `is_kept` is false.

        Raises:
            OSError: The disk refused. After ENOSPC it may be tried again; after anything else it is to be
                discarded, for an fsync that failed may have lost what was written (disk.commit).
        """
        if self.path is None:
            self._hops.let_go()
            return

        def committed() -> None:
            self.path = None
            self._committed(self)
            self._hops.let_go()

        await self._hops.run(committed, disk.commit, self._hops.fd, self.path, self.target)

    async def discard(self) -> None:
        """Throw it away.

        Raises:
            OSError: The disk refused; it is left there as if it had been parked.
        """
        if self._hops.is_over:
            return
        try:
            if self.path is not None:
                await self._hops.run(self._forget_path, disk.unlink_all, [self.path])
        finally:
            self._hops.let_go()

    def park(self) -> None:
        """Let go of it and leave it on the disk, to be resumed by a later `find_partial`."""
        if (
            self.path is not None
            and not self.offset
            and not self._hops.is_under_way
            and not self._hops.is_over
        ):
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
                self._forget_path()
        self._hops.let_go()

    async def _catch_up(self) -> None:
        while self._hashed < self.offset:
            stop = min(self._hashed + HASH_SLICE_BYTES, self.offset)

            def hashed(stop: int = stop) -> None:
                self._hashed = stop

            try:
                await self._hops.run(hashed, disk.hash_range, self._hops.fd, self._hashed, stop, self._hasher)
            except OSError:
                self._hasher, self._hashed = self.digest.hasher(), 0
                raise

    def _forget_path(self) -> None:
        self.path = None
