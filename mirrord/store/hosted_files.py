"""HostedFiles: content files that change their folder, between the cache and that of hosted repositories.

A hosted repository has its content in the hosted folder, where eviction never looks; mirrored repositories
read it there too. A file that is served while it moves is found in either place (Layout.candidates).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.copying import link_content, move_content
from mirrord.store.layout import Layout
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
        if not await self._threads.sync(self._provide, blob):
            return False
        self._contents.add(ContentKind.BLOB, blob.digest, blob.size)
        return True

    async def drop_cached(self, kind: ContentKind, digest: Digest) -> None:
        """Delete the file that the cache has of hosted content. A failure leaves it to the next start."""
        with contextlib.suppress(OSError):
            path = self._layout.content(kind, digest, is_hosted=False)
            await self._threads.run(disk.unlink_all, [path])

    async def take_from_cache(self, kind: ContentKind, digest: Digest) -> bool:
        """Move content to the hosted folder; return False if its file is damaged, gone or being pushed."""
        return await self._move(kind, digest, to_hosted=True)

    async def return_to_cache(self, entries: Sequence[Entry]) -> list[Entry]:
        """Move content to the cache that no hosted repository has any more, and count it as mirrored.

        Return what it has no room for.
        """
        left = []
        for entry in entries:
            digest = Digest.parse(entry.name)
            if self._contents.hosted_type(entry.kind, digest) is None:
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
        if self._contents.is_claimed(kind, digest) or self._contents.removals.is_running(kind, digest):
            return False
        target, source = self._layout.candidates(kind, digest, is_hosted=to_hosted)
        folder = self._layout.hosted if to_hosted else self._layout.mirrored
        scratch = folder.scratch / f"content-{next(self._numbers)}"
        has_room = partial(self._has_room, folder.root)
        moving = self._threads.sync(move_content, source, target, digest, scratch, has_room)
        return await self._contents.removals.run([(kind, digest)], moving)

    def _provide(self, blob: Descriptor) -> bool:
        hosted, cached = self._layout.candidates(ContentKind.BLOB, blob.digest, is_hosted=True)
        if _size(hosted) == blob.size:
            return True
        if _size(cached) != blob.size:
            return False
        scratch = self._layout.hosted.scratch / f"content-{next(self._numbers)}"
        has_room = partial(self._has_room, self._layout.hosted_root)
        return link_content(cached, hosted, blob.digest, scratch, has_room)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
