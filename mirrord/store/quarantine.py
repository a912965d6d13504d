"""Quarantine: hosted content that is not served, but may be the only copy of something.

It is content that no record accounts for, because a push ended before it was promised or a record is lost,
and content that was found damaged. It stays for 30 days, in which the operator can look at it.
"""

from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.logger import Logger

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.copying import is_whole
from mirrord.store.disk import stamp
from mirrord.store.hashed_file import IdleFile, idle_files
from mirrord.store.layout import Layout, footprint
from mirrord.store.threads import Threads

KEPT_SECONDS = 30 * 86400.0

Move = Callable[[Path, Path, Digest, float], int | None]
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
        return await self._put(kind, digest, _move_damaged, "it is damaged")

    async def put_unrecorded(self, kind: ContentKind, digest: Digest) -> None:
        """Move a file of the hosted folder here, unless it is being pushed."""
        await self._put(kind, digest, _move, "no record accounts for it")

    async def _put(self, kind: ContentKind, digest: Digest, move: Move, reason: str) -> bool:
        source, target = self._layout.content(kind, digest, is_hosted=True), self._path(kind, digest)
        if self._contents.is_claimed(kind, digest) or self._contents.removals.is_running(kind, digest):
            return True
        try:
            moving = self._threads.sync(move, source, target, digest, self._now())
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
        if source.name not in self._files or not await self._threads.run(is_whole, source, digest):
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

    def _forget(self, name: str) -> int | None:
        """Leave a file out of the totals, and return its size; None if there is none of this name."""
        file = self._files.pop(name, None)
        if file is None:
            return None
        self._bytes -= footprint(file.size)
        return file.size

    def _path(self, kind: ContentKind, digest: Digest) -> Path:
        return self._layout.quarantine / f"{kind}-{digest.algorithm}-{digest.encoded}"


def _move(source: Path, target: Path, _: Digest, now: float) -> int:
    disk.rename(source, target)
    stamp(target, now)
    return target.stat().st_size


def _move_damaged(source: Path, target: Path, digest: Digest, now: float) -> int | None:
    return None if is_whole(source, digest) else _move(source, target, digest, now)
