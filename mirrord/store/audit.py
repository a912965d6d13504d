"""The audit: everything at rest, hashed again; what is not what its digest names is set aside.

A file is hashed a slice at a time, each by a thread that has a descriptor of its own: whoever gives up
in between leaves nothing to be closed under a thread. What had to be read from the disk for it is
dropped from the page cache again, so that clients do not pay for an audit.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.logger import Logger

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest, Hasher
from mirrord.store import disk
from mirrord.store.cache import BodyCache
from mirrord.store.contents import Contents
from mirrord.store.database import Database
from mirrord.store.disk import Threads
from mirrord.store.layout import Layout, footprint
from mirrord.store.schema import CONTENT, PAGE_ROWS, ContentRow
from mirrord.store.unfinished import PartialStore

SLICE_BYTES = 16 * 1024 * 1024

_NEXT = f"SELECT * FROM content WHERE (digest, kind) > (?, ?) ORDER BY digest, kind LIMIT {PAGE_ROWS}"  # noqa: S608


@attrs.define(eq=False)
class Examination:
    """One file at rest that is being hashed. Close it."""

    _kind: ContentKind
    _digest: Digest
    _audit: "Audit"
    _fd: int | None
    _hasher: Hasher
    _offset: int = attrs.field(default=0, init=False)

    async def hash_slice(self) -> int:
        """Hash the next slice; how many bytes that were, 0 when all is hashed.

        Raises:
            OSError: The disk cannot give it back, or there is no file.
        """
        if self._fd is None:
            raise FileNotFoundError("there is no file")
        stop = min(self._offset + SLICE_BYTES, os.fstat(self._fd).st_size)
        count = stop - self._offset
        if count:
            own = os.dup(self._fd)
            await self._audit.threads.run(_hash_cold, own, self._offset, stop, self._hasher)
            self._offset = stop
        return count

    @property
    def is_whole(self) -> bool:
        """Whether what was hashed is what the digest names."""
        return self._hasher.hexdigest() == self._digest.encoded

    def set_aside(self) -> bool:
        """Have it absent from now on; false where it is gone already, or another file by now.

        Raises:
            OSError: The disk refused; it is absent all the same.
        """
        return self._audit.set_aside(self._kind, self._digest, self._fd)

    def close(self) -> None:
        """Let go of the file; may be called more than once."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


@attrs.define(eq=False)
class Audit:
    """All content at rest, one file after another."""

    _layout: Layout
    _database: Database
    _contents: Contents
    _partials: PartialStore
    _cache: BodyCache
    threads: Threads
    _log = Logger()

    @property
    def total_bytes(self) -> int:
        """What all content takes of the disk."""
        return self._contents.total.bytes

    @property
    def total_entries(self) -> int:
        """How many blobs and manifests there are."""
        return self._contents.total.entries

    def pages(self) -> Iterator[list[Entry]]:
        """All content by digest, a page an item."""
        last = ("", "")
        while page := [ContentRow._make(row) for row in self._database.select(_NEXT, last)]:
            yield [
                Entry(
                    ContentKind(row.kind), row.digest, footprint(row.size), self._contents.idle_seconds(row)
                )
                for row in page
                if not self._database.is_overlaid(CONTENT, CONTENT.key_of(row))
            ]
            last = page[-1].digest, page[-1].kind

    def examine(self, entry: Entry) -> Examination | None:
        """Begin to hash an entry; None where it has left the store since it was listed."""
        digest = Digest.parse(entry.name)
        if self._contents.get(entry.kind, digest) is None:
            return None
        try:
            fd = os.open(self._layout.content(entry.kind, digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return Examination(entry.kind, digest, self, None, digest.hasher())
        return Examination(entry.kind, digest, self, fd, digest.hasher())

    def set_aside(self, kind: ContentKind, digest: Digest, fd: int | None) -> bool:
        """Have the file that was opened as `fd` absent (examinations call this)."""
        path = self._layout.content(kind, digest)
        if self._contents.get(kind, digest) is None or not _is_the_same(path, fd):
            return False
        self._contents.drop(kind, digest)
        self._cache.drop(kind, digest)
        self._log.error("{digest} is damaged on the disk and set aside", digest=str(digest))
        with contextlib.suppress(FileNotFoundError):
            self._partials.set_aside(kind, digest, path)
        return True


def _is_the_same(path: Path, fd: int | None) -> bool:
    """Whether the file of that name is still the one that was opened; where none was, that there is none."""
    try:
        found = path.stat()
    except OSError:
        return True
    return fd is not None and found.st_ino == os.fstat(fd).st_ino


def _hash_cold(own: int, start: int, stop: int, hasher: Hasher) -> None:
    """Hash what is written from `start` to before `stop`, leave the page cache as it was, close `own`."""
    try:
        was_cold = _is_cold(own, start)
        disk.hash_range(own, start, stop, hasher)
        if was_cold:
            os.posix_fadvise(own, start, stop - start, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(own)


def _is_cold(fd: int, offset: int) -> bool:
    """Whether the byte at `offset` is not in memory, as far as the kernel can tell."""
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
