"""The audit: hash all stored content again, and set aside what does not match its digest.

A file is hashed a slice at a time, each in a thread with a descriptor of its own: a caller that stops in
between leaves nothing to be closed under a thread. Pages that had to be read from the disk are dropped
from the page cache again, so that an audit does not slow down clients.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest, Hasher
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.damaged import DamagedContent
from mirrord.store.database import Database
from mirrord.store.layout import Layout
from mirrord.store.schema import CONTENT, PAGE_ROWS, ContentRow
from mirrord.store.threads import Threads

SLICE_BYTES = 16 * 1024 * 1024

_NEXT = f"SELECT * FROM content WHERE (digest, kind) > (?, ?) ORDER BY digest, kind LIMIT {PAGE_ROWS}"  # noqa: S608


@attrs.define(eq=False, kw_only=True)
class ContentExamination:
    """One stored file that is being hashed. Close it."""

    _kind: ContentKind
    _digest: Digest
    _audit: "ContentAudit"
    _fd: int | None
    _hasher: Hasher = attrs.field(init=False)
    _offset: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._hasher = self._digest.hasher()

    async def hash_slice(self) -> int:
        """Hash the next slice; return how many bytes that were, 0 once all is hashed.

        Raises:
            OSError: The file cannot be read, or does not exist.
        """
        if self._fd is None:
            raise FileNotFoundError("there is no file")
        stop = min(self._offset + SLICE_BYTES, os.fstat(self._fd).st_size)
        count = stop - self._offset
        if count:
            own = os.dup(self._fd)
            await self._audit.threads.read(_hash_cold, own, self._offset, stop, self._hasher)
            self._offset = stop
        return count

    @property
    def is_whole(self) -> bool:
        """Whether the hashed bytes are what the digest names."""
        return self._hasher.hexdigest() == self._digest.encoded

    def set_aside(self) -> bool:
        """Set the content aside; return False if it is gone already, or is another file by now.

        It is absent at once; a thread moves its file.
        """
        return self._audit.set_aside(self._kind, self._digest, self._fd)

    def close(self) -> None:
        """Close the file; may be called more than once."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


@attrs.define(eq=False, kw_only=True)
class ContentAudit:
    """All stored content, one file after another."""

    _layout: Layout
    _database: Database
    _contents: Contents
    _damaged: DamagedContent
    threads: Threads

    @property
    def total_bytes(self) -> int:
        """The disk space of all content."""
        return self._contents.total.bytes

    @property
    def total_entries(self) -> int:
        """The number of blobs and manifests."""
        return self._contents.total.entries

    def pages(self) -> Iterator[list[Entry]]:
        """Iterate over pages of all content by digest."""
        for page in self._database.pages(_NEXT, key=slice(2)):
            yield [
                self._contents.entry(row)
                for row in map(ContentRow._make, page)
                if not self._database.is_overlaid(CONTENT, CONTENT.key_of(row))
            ]

    def examine(self, entry: Entry) -> ContentExamination | None:
        """Begin to hash an entry; None if it has left the store since it was listed."""
        digest = Digest.parse(entry.name)
        row = self._contents.get(entry.kind, digest)
        if row is None:
            return None
        fd: int | None = None
        with contextlib.suppress(OSError):
            fd = disk.open_first(self._layout.candidates(entry.kind, digest, is_hosted=row.is_hosted))
        return ContentExamination(kind=entry.kind, digest=digest, audit=self, fd=fd)

    def set_aside(self, kind: ContentKind, digest: Digest, fd: int | None) -> bool:
        """Set aside the file that was opened as `fd`, for an examination."""
        row = self._contents.get(kind, digest)
        if row is None or not _is_the_same(self._layout.content(kind, digest, is_hosted=row.is_hosted), fd):
            return False
        self._damaged.set_aside(kind, digest)
        return True


def _is_the_same(path: Path, fd: int | None) -> bool:
    """Return whether `path` is still what was opened: that file, or no file if none could be."""
    try:
        found = path.stat()
    except OSError:
        return True
    return fd is not None and found.st_ino == os.fstat(fd).st_ino


def _hash_cold(own: int, start: int, stop: int, hasher: Hasher) -> None:
    """Hash from `start` to before `stop`, leave the page cache as it was, and close `own`."""
    try:
        was_cold = _is_cold(own, start)
        disk.hash_range(own, start, stop, hasher)
        if was_cold:
            os.posix_fadvise(own, start, stop - start, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(own)


def _is_cold(fd: int, offset: int) -> bool:
    """Return whether the byte at `offset` is not in memory, as far as the kernel reports it."""
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
