"""HashedFile: an append-only file with a running hash, the base of downloads and uploads.

A blob arrives in chunks, over seconds or over days, and is a file that grows until its digest is verified
and it is renamed into place. Whether the bytes come from an upstream (partials.py) or from a client that
pushes (uploads.py), the same four things are hard, and are solved here once:

- *The reactor must not block.* A chunk is written and hashed in one call to a thread; so is the fsync.
- *A descriptor must outlive its threads.* A coroutine that is cancelled, or has waited for too long, leaves
  its thread running, and a descriptor that is closed under a thread may belong to another file a moment
  later. So a call is never cancelled, only the coroutine that awaits it, and the file is closed when the
  last call has returned, in a thread: what was deleted while it was open is freed by that.
- *A restart loses the hash, not the bytes.* The length of the file is the offset. The bytes before it are
  hashed again in slices, so that ten gigabytes of them do not occupy a thread that other requests need.
- *A failed fsync is final.* The kernel reports it once and then forgets (disk.commit). A write that failed
  can be repeated: the file is truncated to where it was.

Readers have descriptors of their own and read with offsets; they never disturb the writer, and the file
under them stays the same through the rename.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mirrord.oci.digest import Digest, Hasher
from mirrord.store import disk
from mirrord.store.threads import DiskTimeout, Threads, shield

HASH_SLICE_BYTES = 16 * 1024 * 1024

P = ParamSpec("P")


@attrs.frozen
class IdleFile:
    """A file that nothing writes; `since` is the service time of its last write."""

    path: Path
    size: int
    since: float


def idle_files(folder: Path, now: float) -> dict[str, IdleFile]:
    """Return the files that an earlier run left in a folder, by name; `now` is service time."""
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found[path.name] = IdleFile(path, status.st_size, disk.read_stamp(path, status, now))
    return found


@attrs.define(eq=False)
class RunningHash:
    """The hash of the first `count` bytes of a file."""

    algorithm: str
    count: int = 0
    hasher: Hasher = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.hasher = hashlib.new(self.algorithm)

    def reset(self) -> None:
        """Start again from the first byte."""
        self.hasher, self.count = hashlib.new(self.algorithm), 0


@attrs.define(eq=False, kw_only=True)
class HashedFile:
    """An open file that grows; `offset` is its length.

    One call at a time: each coroutine is awaited, or cancelled, before the next begins. After `release`
    every call raises ValueError; `closed` is called once, on the reactor, when no call uses the file. After
    `DiskTimeout` the call is still running: nothing else may be done with the file but to release it.
    """

    offset: int
    running: RunningHash
    _fd: int
    _threads: Threads
    _closed: Callable[[], None]
    _calls: int = attrs.field(default=0, init=False)
    is_released: bool = attrs.field(default=False, init=False)

    @property
    def is_closed(self) -> bool:
        """Whether the descriptor is closed."""
        return self._fd < 0

    def open_reader(self) -> int:
        """Return a file descriptor of the caller's own, to read with offsets; the caller closes it.

        Raises:
            OSError: There are no more descriptors.
        """
        self._require_open()
        return os.dup(self._fd)

    async def append(self, chunk: bytes) -> None:
        """Append, and hash if the running hash is up to date; on return `offset` has grown by all of `chunk`.

        Raises:
            OSError: The disk failed, for instance with ENOSPC; `offset` is unchanged and the call can be
                repeated.
        """
        self._require_open()
        is_current = self.running.count == self.offset

        def grow() -> None:
            self.offset += len(chunk)
            if is_current:
                self.running.count = self.offset

        hasher = self.running.hasher if is_current else None
        await self._call(grow, disk.append, self._fd, self.offset, chunk, hasher)

    async def catch_up(self) -> None:
        """Hash all bytes that the running hash lacks, a slice at a time.

        Raises:
            OSError: The file cannot be read; the next call starts from its first byte.
        """
        try:
            while (start := self.running.count) < self.offset:
                stop = min(start + HASH_SLICE_BYTES, self.offset)

                def advance(stop: int = stop) -> None:
                    self.running.count = stop

                await self._call(advance, disk.hash_range, self._fd, start, stop, self.running.hasher)
        except DiskTimeout:
            raise
        except OSError:
            self.running.reset()
            raise

    async def matches(self, digest: Digest) -> bool:
        """Return whether the bytes so far are what `digest` names, by whichever algorithm it has.

        Raises:
            OSError: The file cannot be read.
        """
        if digest.algorithm == self.running.algorithm:
            await self.catch_up()
            return self.running.hasher.hexdigest() == digest.encoded
        hasher = digest.hasher()
        for start in range(0, self.offset, HASH_SLICE_BYTES):
            stop = min(start + HASH_SLICE_BYTES, self.offset)
            await self._call(_nothing, disk.hash_range, self._fd, start, stop, hasher)
        return hasher.hexdigest() == digest.encoded

    async def move(self, path: Path, target: Path) -> None:
        """Rename the file from `path` to `target`, durably: fsync, rename, fsync of the folder.

        Raises:
            OSError: The disk failed. After ENOSPC the call can be repeated; after EIO the file is to be
                discarded, because a failed fsync may have lost what was written (disk.commit).
        """
        self._require_open_descriptor()
        await self._shield(self._threads.sync(disk.commit, self._fd, path, target), _nothing)

    async def unlink(self, path: Path) -> None:
        """Delete the file's name.

        Raises:
            OSError: The disk failed.
        """
        await self._call(_nothing, disk.unlink_all, [path])

    async def finish(self, operation: Coroutine[Any, Any, None]) -> None:
        """Run `operation` to completion, even if the caller is cancelled; the file stays open until then."""
        try:
            self._require_open()
        except ValueError:
            operation.close()
            raise
        await self._shield(Deferred.fromCoroutine(operation), _nothing)

    def release(self) -> None:
        """Close the file once the last call has returned; may be called more than once."""
        self.is_released = True
        self._close_if_unused()

    async def _call(
        self, done: Callable[[], None], function: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call `function` in a thread; if it succeeds call `done`, even if the caller is cancelled."""
        self._require_open_descriptor()
        await self._shield(self._threads.run(function, *args, **kwargs), done)

    async def _shield(self, running: Deferred[Any], done: Callable[[], None]) -> None:
        """Await `running`, which continues if the caller is cancelled or its deadline has passed."""

        def returned(result: object) -> None:
            self._calls -= 1
            if not isinstance(result, Failure):
                done()
            self._close_if_unused()

        self._calls += 1
        await shield(running, returned)

    def _close_if_unused(self) -> None:
        if self.is_released and not self._calls and not self.is_closed:
            fd, self._fd = self._fd, -1
            self._close(fd)

    def _close(self, fd: int) -> None:
        """Close the descriptor, which no thread uses any more, and report it."""
        self._threads.close(fd)
        self._report_closed()

    def _report_closed(self) -> None:
        """Call `closed` and drop it: it refers to this file, so only garbage collection would free both."""
        closed, self._closed = self._closed, _nothing
        closed()

    def _require_open(self) -> None:
        if self.is_released:
            raise ValueError("the file is closed")

    def _require_open_descriptor(self) -> None:
        if self.is_closed:
            raise ValueError("the file is closed")


def _nothing() -> None:
    pass
