"""HostedFiles: content files that change their folder, between the cache and that of hosted repositories.

A hosted repository has its content in the hosted folder, where eviction never looks; mirrored repositories
read it there too. A file that is served while it moves is found in either place (Layout.candidates).
"""

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.copying import link_content, rename_content
from mirrord.store.layout import ContentFolder, Layout
from mirrord.store.slices import copy_content
from mirrord.store.threads import Threads


@attrs.define(eq=False, kw_only=True)
class HostedFiles:
    """Moves and copies content between the two folders.

    `has_room` returns whether so many more bytes may be used on the file system of a folder.
    Coroutines raise OSError if the disk failed or has no room; the content is then where it was.
    """

    _layout: Layout
    _contents: Contents
    _threads: Threads
    _has_room: Callable[[Path, int], bool]
    _numbers: Iterator[int] = attrs.field(factory=count, init=False)

    async def provide(self, blob: Descriptor) -> bool:
        """Bring a committed blob, which the caller has claimed, into the hosted folder, if it is not there.

        Return False if there is none of this size.
        """
        hosted, cached = self._layout.candidates(ContentKind.BLOB, blob.digest, is_hosted=True)
        if await self._threads.read(_size, hosted) != blob.size:
            if await self._threads.read(_size, cached) != blob.size:
                return False
            is_linked = await self._threads.sync(
                link_content, cached, hosted, self._scratch(self._layout.hosted)
            )
            if not is_linked and not await self._copy(cached, hosted, blob.digest, self._layout.hosted):
                return False
        self._contents.add(ContentKind.BLOB, blob.digest, blob.size)
        return True

    async def drop_cached(self, kind: ContentKind, digest: Digest) -> None:
        """Delete the file that the cache has of hosted content. A failure leaves it to the next start."""
        with contextlib.suppress(OSError):
            path = self._layout.content(kind, digest, is_hosted=False)
            unlinking = self._threads.run(disk.unlink_all, [path])
            await self._contents.removals.run([(kind, digest)], unlinking)

    async def take_from_cache(self, kind: ContentKind, digest: Digest) -> bool:
        """Move content to the hosted folder; return False if its file is damaged, gone or being pushed."""
        return await self._move(kind, digest, to_hosted=True)

    async def return_to_cache(self, entries: Sequence[Entry]) -> list[Entry]:
        """Move content that no hosted repository has to the cache, and count it as mirrored.

        Return what it has no room for.
        """
        left = []
        for entry in entries:
            digest = Digest.parse(entry.name)
            is_unlinked = self._contents.hosted_type(entry.kind, digest) is None
            if is_unlinked and not self._is_busy(entry.kind, digest):
                try:
                    await self._move(entry.kind, digest, to_hosted=False)
                except OSError as error:
                    if error.errno not in disk.FULL:
                        raise
                    left.append(entry)
                    continue
                if not self._contents.is_hosted(entry.kind, digest):
                    self._contents.mark(entry.kind, digest, is_hosted=False)
        return left

    async def _move(self, kind: ContentKind, digest: Digest, *, to_hosted: bool) -> bool:
        if self._is_busy(kind, digest):
            return False
        moving = Deferred.fromCoroutine(self._transfer(kind, digest, to_hosted=to_hosted))
        return await self._contents.removals.run([(kind, digest)], moving)

    def _is_busy(self, kind: ContentKind, digest: Digest) -> bool:
        return self._contents.is_claimed(kind, digest) or self._contents.removals.is_running(kind, digest)

    async def _transfer(self, kind: ContentKind, digest: Digest, *, to_hosted: bool) -> bool:
        """Rename a file, or copy and delete it. Interrupted, it is at one of the two places, or at both."""
        target, source = self._layout.candidates(kind, digest, is_hosted=to_hosted)
        is_renamed = await self._threads.sync(rename_content, source, target)
        if is_renamed is not None:
            return is_renamed
        folder = self._layout.hosted if to_hosted else self._layout.mirrored
        is_copied = await self._copy(source, target, digest, folder)
        if is_copied:
            await self._threads.run(disk.unlink_all, [source])
        return is_copied

    async def _copy(self, source: Path, target: Path, digest: Digest, folder: ContentFolder) -> bool:
        size = await self._threads.read(_size, source)
        if not await self._threads.read(self._has_room, folder.root, size or 0):
            raise OSError(errno.ENOSPC, f"no room for a copy of {digest}")
        return await copy_content(self._threads, source, target, digest, self._scratch(folder))

    def _scratch(self, folder: ContentFolder) -> Path:
        return folder.scratch / f"content-{next(self._numbers)}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
