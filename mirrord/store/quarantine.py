"""Quarantine: hosted content that is not served, but may be the only copy of something.

It is content that no record accounts for, because a push ended before it was promised or a record is lost,
and content that was found damaged. It stays for 30 days, in which the operator can look at it.
"""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.disk import stamp
from mirrord.store.hashed_file import IdleFile, idle_files
from mirrord.store.layout import Layout, footprint
from mirrord.store.slices import is_content
from mirrord.store.threads import Threads

KEPT_SECONDS = 30 * 86400.0

Move = Callable[[Path, Path, Digest], Coroutine[Any, Any, int | None]]
"""Moves a file and returns its size; None if it stays."""


@attrs.define(eq=False, kw_only=True)
class Quarantine:
    """The files in quarantine; `now` is service time. Coroutines raise OSError if the disk failed."""

    _layout: Layout
    _contents: Contents
    _threads: Threads
    _now: Callable[[], float]
    _files: dict[str, IdleFile] = attrs.field(init=False)
    _bytes: int = attrs.field(init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._files = idle_files(self._layout.quarantine, self._now())
        self._bytes = sum(footprint(file.size) for file in self._files.values())

    @property
    def total_entries(self) -> int:
        """The number of files."""
        return len(self._files)

    @property
    def total_bytes(self) -> int:
        """The disk space of all files."""
        return self._bytes

    def has(self, kind: ContentKind, digest: Digest) -> bool:
        """Return whether content is here."""
        return self._path(kind, digest).name in self._files

    async def put_damaged(self, kind: ContentKind, digest: Digest) -> bool:
        """Move a file of the hosted folder here, unless it turns out to be whole: it was replaced.

        Return False if there is none.
        """
        return await self._put(kind, digest, self._move_damaged, "it is damaged")

    async def put_unrecorded(self, kind: ContentKind, digest: Digest) -> None:
        """Move a file of the hosted folder here, unless it is being pushed."""
        await self._put(kind, digest, self._move, "no record accounts for it")

    async def _put(self, kind: ContentKind, digest: Digest, move: Move, reason: str) -> bool:
        source, target = self._layout.content(kind, digest, is_hosted=True), self._path(kind, digest)
        if self._contents.is_claimed(kind, digest) or self._contents.removals.is_running(kind, digest):
            return True
        try:
            moving = Deferred.fromCoroutine(move(source, target, digest))
            size = await self._contents.removals.run([(kind, digest)], moving)
        except FileNotFoundError:
            return False
        if size is not None:
            self._forget(target.name)
            self._files[target.name] = IdleFile(target, size, self._now())
            self._bytes += footprint(size)
            self._log.error(
                "{kind} {digest} was moved to {path}, where it stays for 30 days: {reason}",
                kind=str(kind),
                digest=str(digest),
                path=str(target),
                reason=reason,
            )
        return True

    async def restore(self, kind: ContentKind, digest: Digest) -> int | None:
        """Move content back that is whole, and return its size; None if there is none."""
        source, target = self._path(kind, digest), self._layout.content(kind, digest, is_hosted=True)
        if source.name not in self._files or not await is_content(self._threads, source, digest):
            return None
        await self._threads.sync(disk.rename, source, target)
        return self._forget(source.name)

    async def remove_expired(self) -> int:
        """Delete what was here for 30 days; return how many files."""
        before = self._now() - KEPT_SECONDS
        expired = [file.path for file in self._files.values() if file.since <= before]
        await self._threads.run(disk.unlink_all, expired)
        for path in expired:
            self._forget(path.name)
        return len(expired)

    async def _move(self, source: Path, target: Path, _: Digest) -> int | None:
        return await self._threads.sync(_rename, source, target, self._now())

    async def _move_damaged(self, source: Path, target: Path, digest: Digest) -> int | None:
        is_whole = await is_content(self._threads, source, digest)
        return None if is_whole else await self._move(source, target, digest)

    def _forget(self, name: str) -> int | None:
        """Leave a file out of the totals, and return its size; None if there is none of this name."""
        file = self._files.pop(name, None)
        if file is None:
            return None
        self._bytes -= footprint(file.size)
        return file.size

    def _path(self, kind: ContentKind, digest: Digest) -> Path:
        return self._layout.quarantine / f"{kind}-{digest.algorithm}-{digest.encoded}"


def _rename(source: Path, target: Path, now: float) -> int:
    disk.rename(source, target)
    stamp(target, now)
    return target.stat().st_size
