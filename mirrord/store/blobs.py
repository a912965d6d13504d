"""Committed blobs: opened, pinned while they are read, and adopted where the index lacks them."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.damaged import DamagedContent
from mirrord.store.layout import Layout, footprint
from mirrord.store.partials import PartialFile, PartialStore
from mirrord.store.schema import ContentRow
from mirrord.store.threads import Threads

SMALL_BYTES = 64 * 1024
"""Blobs up to this size are read whole, verified, and served from memory."""


@attrs.define(eq=False, kw_only=True)
class StoredBlob:
    """A committed blob, open for reading and pinned: it is not collected until it is closed."""

    size: int
    body: bytes | None
    _paths: Sequence[Path]
    _fd: int | None
    _threads: Threads
    _closed: Callable[[], None]
    _is_closed: bool = attrs.field(default=False, init=False)

    @property
    def fd(self) -> int:
        """A file descriptor of its own, closed by `close`; where `body` is there, opened on first use."""
        if self._is_closed:
            raise ValueError("the blob is closed")
        if self._fd is None:
            self._fd = disk.open_first(self._paths)
        return self._fd

    @property
    def readable(self) -> int:
        """How many bytes may be read: all of them."""
        return self.size

    async def grown(self, beyond: int) -> int:
        """Return the size at once: a committed blob does not grow."""
        return self.size

    async def pass_through(self, first: int, stop: int) -> None:
        """Return None: no range of a committed blob has to come from an upstream."""

    def close(self) -> None:
        """Unpin and close; may be called more than once."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._fd is not None:
            disk.close_reader(self._threads, self._fd)
        self._closed()


@attrs.define(eq=False, kw_only=True)
class BlobStore:
    """Committed blobs and partials, by digest alone; implements `BlobFiles` of `mirrored/ports.py`.

    `pinned_bytes` counts the mirrored blobs being read. All methods raise OSError when the disk fails.
    """

    _layout: Layout
    _contents: Contents
    _partials: PartialStore
    _damaged: DamagedContent
    _threads: Threads
    _pins: dict[Digest, tuple[int, int]] = attrs.field(factory=dict, init=False)
    _waiters: dict[Digest, list[Deferred[None]]] = attrs.field(factory=dict, init=False)
    pinned_bytes: int = attrs.field(default=0, init=False)

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a committed blob; None if there is none."""
        row = self._find(digest)
        return None if row is None else row.size

    def open(self, digest: Digest) -> StoredBlob | None:
        """Open a committed blob; None if there is none. Counts as a use."""
        row = self._find(digest)
        found = None if row is None else self._load(digest, row)
        if row is None or found is None:
            return None
        body, fd = found
        self._contents.use(digest)
        # Hosted content does not count against the limits of mirrored content, pinned or not.
        self._pin(digest, 0 if row.is_hosted else footprint(row.size))
        return StoredBlob(
            size=row.size,
            body=body,
            paths=self._paths(digest, row),
            fd=fd,
            threads=self._threads,
            closed=lambda: self._unpin(digest),
        )

    async def find_partial(self, digest: Digest) -> PartialFile | None:
        """Open the partial that an earlier download left; it is hashed again before the first write."""
        return await self._partials.find(digest)

    async def create_partial(self, digest: Digest, *, is_kept: bool) -> PartialFile:
        """Open a new, empty partial; raises ValueError if this digest is being written already."""
        return await self._partials.create(digest, is_kept=is_kept)

    async def move_back(self, digest: Digest, path: Path) -> bool:
        """Rename the file of a blob to `path`, where it was before its commit; False if others use it now."""
        if self._contents.is_hosted(ContentKind.BLOB, digest) or self.is_pinned(digest):
            return False
        self._contents.drop(ContentKind.BLOB, digest)
        path_now = self._layout.content(ContentKind.BLOB, digest, is_hosted=True)
        renaming = self._threads.run(os.rename, path_now, path)
        await self._contents.removals.run([(ContentKind.BLOB, digest)], renaming)
        return True

    def is_pinned(self, digest: Digest) -> bool:
        """Return whether this blob is being read."""
        return digest in self._pins

    def when_unpinned(self, digest: Digest) -> Deferred[None]:
        """Return a Deferred that fires once this blob is not being read."""
        unpinned: Deferred[None] = Deferred()
        if digest in self._pins:
            self._waiters.setdefault(digest, []).append(unpinned)
        else:
            unpinned.callback(None)
        return unpinned

    def _find(self, digest: Digest) -> ContentRow | None:
        """Return the row of a blob; a file without one was committed just before an earlier run ended."""
        row = self._contents.get(ContentKind.BLOB, digest)
        if row is not None:
            return row
        if self._contents.removals.is_running(ContentKind.BLOB, digest):
            return None
        for is_hosted in (False, True):
            with contextlib.suppress(FileNotFoundError):
                status = self._layout.content(ContentKind.BLOB, digest, is_hosted=is_hosted).stat()
                return self._contents.add(ContentKind.BLOB, digest, status.st_size)
        return None

    def _load(self, digest: Digest, row: ContentRow) -> tuple[bytes | None, int | None] | None:
        """Return the body of a small blob, or a descriptor; None if the blob is gone or damaged."""
        body = self._contents.bodies.get(ContentKind.BLOB, digest)
        if body is not None:
            return body, None
        try:
            fd = disk.open_first(self._paths(digest, row))
        except FileNotFoundError:
            self._contents.drop(ContentKind.BLOB, digest)
            return None
        is_whole = os.fstat(fd).st_size == row.size
        if is_whole and row.size > SMALL_BYTES:
            return None, fd
        try:
            body = os.pread(fd, SMALL_BYTES, 0)
        finally:
            os.close(fd)
        if is_whole and digest.matches(body):
            self._contents.bodies.put(ContentKind.BLOB, digest, body)
            return body, None
        self._damaged.set_aside(ContentKind.BLOB, digest)
        return None

    def _paths(self, digest: Digest, row: ContentRow) -> tuple[Path, Path]:
        return self._layout.candidates(ContentKind.BLOB, digest, is_hosted=row.is_hosted)

    def _pin(self, digest: Digest, busy_bytes: int) -> None:
        pins, counted = self._pins.get(digest, (0, busy_bytes))
        self._pins[digest] = pins + 1, counted
        if not pins:
            self.pinned_bytes += counted

    def _unpin(self, digest: Digest) -> None:
        pins, counted = self._pins.pop(digest)
        if pins > 1:
            self._pins[digest] = pins - 1, counted
            return
        self.pinned_bytes -= counted
        for unpinned in self._waiters.pop(digest, []):
            unpinned.callback(None)
