"""Partials: the uncommitted bytes of blobs that are being downloaded, and what interrupted downloads left.

A partial is keyed by digest alone, and one download at a time writes it. What an earlier run left is
hashed again before anything is appended. Damaged content that was set aside is in the same folder, and
is deleted by the same sweep.

Everything that the disk may delay runs in threads: opening and creating, naming, deleting and closing (the
last descriptor of a deleted file deletes its blocks). Meanwhile the digest counts as open, and a file that
is being deleted delays a new one of the same name.
"""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.disk import stamp, unlink_all
from mirrord.store.hashed_file import HashedFile, IdleFile, RunningHash, idle_files
from mirrord.store.layout import FILE_MODE, Layout, footprint
from mirrord.store.removals import Removals
from mirrord.store.spare_files import SpareFiles
from mirrord.store.threads import DiskTimeout, Threads, shield

_FOUND = os.O_RDWR | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC

P = ParamSpec("P")


@attrs.define(eq=False, kw_only=True)
class PartialFile(HashedFile):
    """The file of one download; implements `PartialBlob` of `mirrored/ports.py`.

    `path` is None if it has no name and will not be kept. `committed` is called once, on the reactor, when it
    has become the blob `target`.
    """

    digest: Digest
    path: Path | None
    _target: Path
    _removals: Removals
    _spare_files: SpareFiles
    _committed: Callable[["PartialFile"], None]
    _now: Callable[[], float]
    _on_closed: list[Deferred[None]] = attrs.field(factory=list, init=False)
    _has_ended: bool = attrs.field(default=False, init=False)
    _log = Logger()

    @property
    def is_kept(self) -> bool:
        """Whether `commit` will keep it; otherwise the file has no name and ends with its last reader."""
        return self.path is not None

    def close_reader(self, fd: int) -> None:
        """Close a descriptor from `open_reader`; may be called after the end of this object."""
        self._spare_files.close(fd)

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
        if self.path is not None:
            await self.finish(self._commit(self.path))
        await self._end()

    async def detach(self) -> None:
        """Delete its name: it can be written and read to its end as before, and is not kept.

        Raises:
            OSError: The disk failed; it keeps its name.
        """
        if self.path is not None:
            await self.finish(self._forget(self.path))

    async def discard(self) -> None:
        """Delete it. If the disk fails, it stays there as if it had been parked."""
        if self.is_released:
            return
        try:
            await self.detach()
        finally:
            await self._end()

    async def park(self) -> None:
        """Close it and leave it on the disk, to be resumed by a later `find_partial`; not if it is empty."""
        await self._end()

    async def _end(self) -> None:
        """Close it, and wait until it is closed: it can be found again from then on."""
        self.release()
        if not self._has_ended:
            ended: Deferred[None] = Deferred()
            self._on_closed.append(ended)
            await ended

    async def _commit(self, path: Path) -> None:
        await self._removals.finished(ContentKind.BLOB, self.digest)
        await self.move(path, self._target)
        self.path = None
        self._committed(self)
        self.release()

    async def _forget(self, path: Path) -> None:
        await self.unlink(path)
        self.path = None

    def _close(self, fd: int) -> None:
        """Stamp the file, or delete it if it is empty; then close it."""
        path, self.path = self.path, self.path if self.offset else None
        if path is None:
            self._was_closed(fd)
        elif self.offset:
            self._finish(self._threads.run(stamp, path, self._now()), fd)
        else:
            self._finish(self._threads.run(unlink_all, [path]), fd)

    def _finish(self, last_call: Deferred[Any], fd: int) -> None:
        """Close the file when the last call has returned, and wake those who wait at its deadline."""
        shield(last_call, lambda _: self._was_closed(fd)).addErrback(self._report).addCallback(self._wake)

    def _report(self, failure: Failure) -> None:
        self._log.warn("cannot park {digest}: {error}", digest=str(self.digest), error=str(failure.value))

    def _was_closed(self, fd: int) -> None:
        self._spare_files.close(fd)
        self._report_closed()
        self._wake()

    def _wake(self, _: object = None) -> None:
        self._has_ended = True
        waiting, self._on_closed = self._on_closed, []
        for ended in waiting:
            ended.callback(None)


@attrs.define(eq=False, kw_only=True)
class PartialStore:
    """Partials by digest, one open at a time, and damaged content that was set aside.

    `now` is service time; `committed` is called with every partial that has become a blob.
    """

    _layout: Layout
    _threads: Threads
    _now: Callable[[], float]
    _removals: Removals
    _spare_files: SpareFiles
    _committed: Callable[[PartialFile], None]
    _open: dict[Digest, PartialFile | None] = attrs.field(factory=dict, init=False)
    _parked: dict[str, IdleFile] = attrs.field(init=False)
    _opening: set[str] = attrs.field(factory=set, init=False)
    _deleting: dict[str, list[Deferred[None]]] = attrs.field(factory=dict, init=False)
    parked_bytes: int = attrs.field(default=0, init=False)
    _reserved: dict[Digest, int] = attrs.field(factory=dict, init=False)
    _lent: dict[Digest, int] = attrs.field(factory=dict, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._parked = idle_files(self._layout.partials, self._now())
        self.parked_bytes = sum(footprint(parked.size) for parked in self._parked.values())

    @property
    def open_bytes(self) -> int:
        """The disk space of partials that are being written."""
        return sum(footprint(partial.offset) for partial in self._written_files() if partial.is_kept)

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

    async def find(self, digest: Digest) -> PartialFile | None:
        """Open the partial that an earlier download left; None if there is none or it is open already.

        Raises:
            OSError: The disk failed.
        """
        path = self._layout.partial(digest)
        if digest in self._open or path.name not in self._parked:
            return None
        try:
            fd = await self._open_file(digest, path.name, os.open, path, _FOUND)
        except FileNotFoundError:
            self._unpark(path.name)
            return None
        return self._begin(digest, path, fd, os.fstat(fd).st_size)

    async def create(self, digest: Digest, *, is_kept: bool) -> PartialFile:
        """Open a new, empty partial; one that is kept replaces a parked one of the same digest.

        Raises:
            OSError: The disk failed.
            ValueError: This digest is being written already.
        """
        writer = self._open.get(digest)
        if writer is not None and not writer.is_released:
            raise ValueError(f"{digest} is being written already")
        path = self._layout.partial(digest) if is_kept else None
        try:
            if digest in self._open:
                raise OSError(errno.EBUSY, "an earlier call for this file has not returned")
            if path is None:
                fd = await self._open_file(digest, "", self._spare_files.open_unnamed)
            else:
                await self._deleted(path.name)
                fd = await self._open_file(digest, path.name, os.open, path, _NEW, FILE_MODE)
        except OSError:
            self._cancel_goals(digest)
            raise
        (self._reserved if path is None else self._lent).pop(digest, None)
        return self._begin(digest, path, fd, 0)

    def set_aside(self, kind: ContentKind, digest: Digest) -> None:
        """Move damaged content, whose row is dropped, to where it is never served; a thread does it soon."""
        name = {"kind": str(kind), "digest": str(digest)}
        self._log.error("{kind} {digest} is damaged on the disk and is set aside", **name)

        def moved(result: IdleFile | Failure) -> None:
            if isinstance(result, IdleFile):
                self._park(result)

        def report(failure: Failure) -> None:
            if not failure.check(FileNotFoundError):
                self._log.warn("cannot set aside {kind} {digest}: {error}", error=str(failure.value), **name)

        path, aside = self._layout.mirrored.path(kind, digest), self._layout.broken(kind, digest)
        moving = shield(self._threads.run(_move_aside, path, aside, self._now()), moved)
        Deferred.fromCoroutine(self._removals.run([(kind, digest)], moving)).addErrback(report)

    def begin_to_delete(self, name: str) -> Path | None:
        """Return the path of a parked file, which is absent from now on; None if it is open again or gone.

        Delete the file, then call `deleted`: a new one of the same name is created only after that.
        """
        parked = None if name in self._opening else self._unpark(name)
        if parked is None:
            return None
        self._deleting.setdefault(name, [])
        return parked.path

    def deleted(self, names: Iterable[str]) -> None:
        """Record that files which the caller began to delete are gone."""
        for name in names:
            for waiting in self._deleting.pop(name, []):
                waiting.callback(None)

    def partial_size(self, digest: Digest) -> int | None:
        """Return the size of the parked partial of a blob; None if there is none."""
        parked = self._parked.get(self._layout.partial(digest).name)
        return None if parked is None else parked.size

    async def park_all(self) -> None:
        """Park every partial that is being written."""
        for partial in self._written_files():
            await partial.park()

    def _begin(self, digest: Digest, path: Path | None, fd: int, offset: int) -> PartialFile:
        if path is not None:
            self._unpark(path.name)
        partial = PartialFile(
            digest=digest,
            path=path,
            target=self._layout.content(ContentKind.BLOB, digest, is_hosted=False),
            offset=offset,
            running=RunningHash(digest.algorithm),
            fd=fd,
            threads=self._threads,
            now=self._now,
            removals=self._removals,
            spare_files=self._spare_files,
            committed=self._committed,
            closed=lambda: self._end(partial),
        )
        self._open[digest] = partial
        return partial

    def _end(self, partial: PartialFile) -> None:
        del self._open[partial.digest]
        self._cancel_goals(partial.digest)
        if partial.path is not None:
            self._park(IdleFile(partial.path, partial.offset, self._now()))

    def _park(self, file: IdleFile) -> None:
        self._unpark(file.path.name)
        self._parked[file.path.name] = file
        self.parked_bytes += footprint(file.size)

    def _unpark(self, name: str) -> IdleFile | None:
        parked = self._parked.pop(name, None)
        if parked is not None:
            self.parked_bytes -= footprint(parked.size)
        return parked

    async def _open_file(
        self, digest: Digest, name: str, function: Callable[P, int], *args: P.args, **kwargs: P.kwargs
    ) -> int:
        """Return the descriptor that a function opens in a thread.

        Until it has returned, even after its deadline, the digest counts as open: a call that comes late must
        not truncate what a later one writes. Meanwhile the file of this name is not deleted.
        """
        self._open[digest] = None
        self._opening.add(name)
        try:
            return await self._threads.run(function, *args, **kwargs)
        except DiskTimeout as timeout:
            ended = timeout.ended().addCallback(self._threads.close)
            ended.addBoth(lambda _: self._open.pop(digest, None))
            raise
        except BaseException:
            del self._open[digest]
            raise
        finally:
            self._opening.discard(name)

    async def _deleted(self, name: str) -> None:
        """Wait until a file that is being deleted is gone."""
        if name in self._deleting:
            gone: Deferred[None] = Deferred()
            self._deleting[name].append(gone)
            await gone

    def _written_files(self) -> list[PartialFile]:
        return [partial for partial in self._open.values() if partial is not None]

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


def _move_aside(path: Path, aside: Path, now: float) -> IdleFile:
    path.rename(aside)
    return IdleFile(aside, aside.stat().st_size, stamp(aside, now))
