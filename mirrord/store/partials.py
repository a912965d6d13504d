"""Partials: the uncommitted bytes of blobs that are being downloaded, and what interrupted downloads left.

A partial is keyed by digest alone, and one download at a time writes it. What an earlier run left is
hashed again before anything is appended. Damaged content that was set aside is in the same folder, and
is deleted by the same sweep.
"""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.logger import Logger

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.disk import stamp
from mirrord.store.hashed_file import HashedFile, IdleFile, RunningHash, idle_files
from mirrord.store.layout import FILE_MODE, Layout, footprint
from mirrord.store.threads import Threads

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


@attrs.define(eq=False, kw_only=True)
class PartialFile(HashedFile):
    """The file of one download; implements `PartialBlob` of `mirrored/ports.py`.

    `path` is None if it has no name and will not be kept. `committed` is called once, on the reactor, when it
    has become the blob `target`.
    """

    digest: Digest
    path: Path | None
    _target: Path
    _committed: Callable[["PartialFile"], None]

    @property
    def is_kept(self) -> bool:
        """Whether `commit` will keep it; otherwise the file has no name and ends with its last reader."""
        return self.path is not None

    async def write(self, chunk: bytes) -> None:
        """Append and hash; on return `offset` has grown by all of `chunk`."""
        await self.catch_up()
        await self.append(chunk)

    async def is_verified(self) -> bool:
        """Return whether the bytes so far are what the digest names."""
        return await self.matches(self.digest)

    async def commit(self) -> None:
        """Make it a blob: fsync, rename, fsync of the folder, index. Does nothing if it is not `is_kept`.

        Raises:
            OSError: The disk failed. After ENOSPC it can be repeated; after anything else discard it.
        """
        if self.path is None:
            self.release()
        else:
            await self.finish(self._commit(self.path))

    async def discard(self) -> None:
        """Delete it. If the disk fails, it stays there as if it had been parked."""
        if self.is_released:
            return
        try:
            if self.path is not None:
                await self.finish(self._forget(self.path))
        finally:
            self.release()

    def park(self) -> None:
        """Close it and leave it on the disk, to be resumed by a later `find_partial`."""
        is_empty = not self.offset and not self.is_busy and not self.is_released
        if self.path is not None and is_empty:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.path = None
        self.release()

    async def _commit(self, path: Path) -> None:
        await self.move(path, self._target)
        self.path = None
        self._committed(self)
        self.release()

    async def _forget(self, path: Path) -> None:
        await self.unlink(path)
        self.path = None


@attrs.define(eq=False, kw_only=True)
class PartialStore:
    """Partials by digest, one open at a time, and damaged content that was set aside.

    `now` is service time; `committed` is called with every partial that has become a blob.
    """

    _layout: Layout
    _threads: Threads
    _now: Callable[[], float]
    _committed: Callable[[PartialFile], None]
    _open: dict[Digest, PartialFile] = attrs.field(factory=dict, init=False)
    _parked: dict[str, IdleFile] = attrs.field(init=False)
    _reserved: dict[Digest, int] = attrs.field(factory=dict, init=False)
    _lent: dict[Digest, int] = attrs.field(factory=dict, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._parked = idle_files(self._layout.partials, self._now())

    @property
    def open_bytes(self) -> int:
        """The disk space of partials that are being written."""
        return sum(footprint(partial.offset) for partial in self._open.values() if partial.is_kept)

    @property
    def parked_bytes(self) -> int:
        """The disk space of parked files."""
        return sum(footprint(parked.size) for parked in self._parked.values())

    @property
    def reserved_bytes(self) -> int:
        """The disk space that is reserved for partials and not yet used by them."""
        return self._outstanding(self._reserved)

    @property
    def lent_bytes(self) -> int:
        """The disk space that is lent to partials without a name and not yet used by them."""
        return self._outstanding(self._lent)

    def parked(self) -> list[IdleFile]:
        """Return the files that nothing writes now, the oldest first."""
        return sorted(self._parked.values(), key=lambda parked: parked.since)

    def reserve(self, digest: Digest, size: int) -> None:
        """Count `size` more bytes as used until the partial of `digest` has written them or ended.

        This replaces what was reserved for the same digest before; 0 cancels it.
        """
        self._set_goal(self._reserved, digest, size)

    def lend(self, digest: Digest, size: int) -> None:
        """Reserve for a partial that will not be kept."""
        self._set_goal(self._lent, digest, size)

    def find(self, digest: Digest) -> PartialFile | None:
        """Open the partial that an earlier download left; None if there is none or it is open already."""
        path = self._layout.partial(digest)
        if digest in self._open or path.name not in self._parked:
            return None
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            del self._parked[path.name]
            return None
        del self._parked[path.name]
        return self._begin(digest, path, fd, os.fstat(fd).st_size)

    def create(self, digest: Digest, *, is_kept: bool) -> PartialFile:
        """Open a new, empty partial; one that is kept replaces a parked one of the same digest.

        Raises:
            OSError: The disk failed.
            ValueError: This digest is being written already.
        """
        if digest in self._open:
            raise ValueError(f"{digest} is being written already")
        path = self._layout.partial(digest) if is_kept else None
        try:
            fd = self._open_unnamed() if path is None else os.open(path, _NEW, FILE_MODE)
        except OSError:
            self._cancel_goals(digest)
            raise
        (self._reserved if path is None else self._lent).pop(digest, None)
        if path is not None:
            self._parked.pop(path.name, None)
        return self._begin(digest, path, fd, 0)

    def set_aside(self, kind: ContentKind, digest: Digest) -> None:
        """Move damaged content to where it is never served; raises OSError if the disk failed."""
        self._log.error(
            "{kind} {digest} is damaged on the disk and was set aside", kind=str(kind), digest=str(digest)
        )
        aside = self._layout.broken(kind, digest)
        self._layout.content(kind, digest).rename(aside)
        self._park(aside, aside.stat().st_size)

    def pop_parked(self, name: str) -> Path | None:
        """Return the path of a parked file that the caller will delete; None if it is open again or gone."""
        parked = self._parked.pop(name, None)
        return None if parked is None else parked.path

    def partial_size(self, digest: Digest) -> int | None:
        """Return the size of the parked partial of a blob; None if there is none."""
        parked = self._parked.get(self._layout.partial(digest).name)
        return None if parked is None else parked.size

    def park_all(self) -> None:
        """Park every partial that is being written."""
        for partial in list(self._open.values()):
            partial.park()

    def _begin(self, digest: Digest, path: Path | None, fd: int, offset: int) -> PartialFile:
        partial = PartialFile(
            digest=digest,
            path=path,
            target=self._layout.content(ContentKind.BLOB, digest),
            offset=offset,
            running=RunningHash(digest.algorithm),
            fd=fd,
            threads=self._threads,
            committed=self._committed,
            closed=lambda: self._end(partial),
        )
        self._open[digest] = partial
        return partial

    def _end(self, partial: PartialFile) -> None:
        del self._open[partial.digest]
        self._cancel_goals(partial.digest)
        if partial.path is not None:
            self._park(partial.path, partial.offset)

    def _park(self, path: Path, size: int) -> None:
        self._parked[path.name] = IdleFile(path, size, stamp(path, self._now()))

    def _set_goal(self, goals: dict[Digest, int], digest: Digest, size: int) -> None:
        goals.pop(digest, None)
        if size:
            goals[digest] = self._written(digest) + size

    def _cancel_goals(self, digest: Digest) -> None:
        self._reserved.pop(digest, None)
        self._lent.pop(digest, None)

    def _outstanding(self, goals: dict[Digest, int]) -> int:
        return sum(
            max(0, footprint(goal) - footprint(self._written(digest))) for digest, goal in goals.items()
        )

    def _written(self, digest: Digest) -> int:
        partial = self._open.get(digest)
        return partial.offset if partial is not None else self.partial_size(digest) or 0

    def _open_unnamed(self) -> int:
        """Open a file without a name; some file systems lack O_TMPFILE."""
        try:
            return os.open(self._layout.scratch, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
        path = self._layout.scratch / "unnamed"
        fd = os.open(path, _NEW, FILE_MODE)
        path.unlink()
        return fd
