"""One upload: bytes appended and hashed in threads, and in the end made a blob.

The order of a commit: verify, fsync, rename, fsync of the folder, and then the index, whose commit is the
moment from which the blob is there. What goes wrong before that leaves the session as it was: the file is
renamed back, unless somebody else has linked to it in the meantime.
"""

import contextlib
import errno
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest, Hasher
from mirrord.oci.errors import DigestInvalid
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import RepositoryName
from mirrord.store import disk
from mirrord.store.blobs import BlobStore
from mirrord.store.disk import Threads
from mirrord.store.hops import ThreadedFile
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.layout import Layout
from mirrord.store.partials import HASH_SLICE_BYTES


@attrs.frozen
class Session:
    """A session at rest: its file, with its size and the service time of its last change."""

    name: str
    path: Path
    size: int
    resting_since: float


@attrs.frozen(eq=False)
class UploadContext:
    """What an upload works with. `ended` is told once, when its request has let go of it."""

    layout: Layout
    blobs: BlobStore
    hosted: HostedIndex
    threads: Threads
    ended: Callable[["Upload"], None]


@attrs.define(eq=False)
class Upload:
    """A session in the hands of a request; `release` it. `is_over` when nothing of it is left."""

    _repository: RepositoryName
    _session: Session
    _fd: int
    _workshop: UploadContext
    _hasher: Hasher
    _hashed: int
    offset: int = attrs.field(init=False)
    is_over: bool = attrs.field(default=False, init=False)
    _hops: ThreadedFile = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.offset = self._session.size
        self._hops = ThreadedFile(self._fd, self._workshop.threads, lambda: self._workshop.ended(self))

    @property
    def session(self) -> str:
        """Its name in URLs."""
        return self._session.name

    @property
    def path(self) -> Path:
        """Its file."""
        return self._session.path

    @property
    def running_hash(self) -> tuple[Hasher, int]:
        """The sha256 of so many of the first bytes."""
        return self._hasher, self._hashed

    async def write(self, chunk: bytes) -> None:
        """Append; on return `offset` has grown by all of `chunk`.

        Raises:
            OSError: The disk refused, ENOSPC for one; `offset` is as before.
        """

        def grew() -> None:
            self.offset += len(chunk)

        def grew_hashed() -> None:
            self.offset += len(chunk)
            self._hashed += len(chunk)

        fd, offset = self._hops.fd, self.offset
        if self._hashed == offset:
            await self._hops.run(grew_hashed, disk.append, fd, offset, chunk, self._hasher)
        else:
            await self._hops.run(grew, disk.append_unhashed, fd, offset, chunk)

    async def commit(self, digest: Digest) -> None:
        """Make it a blob, linked to its repository; the session is over. Goes on if nobody waits for it.

        Raises:
            DigestInvalid: The bytes are not what `digest` names; the session stays.
            OSError: The disk refused; the session stays, unless it was an fsync that failed: nobody knows
                then what is on the disk, and the bytes are thrown away.
        """
        if self._hops.is_over:
            raise ValueError("the upload was let go")
        await self._hops.shield(Deferred.fromCoroutine(self._commit(digest)), lambda: None)

    async def discard(self) -> None:
        """Throw it away; the session is over.

        Raises:
            OSError: The disk refused; a later start finds it.
        """
        if self.is_over:
            return
        self.is_over = True
        try:
            await self._hops.run(lambda: None, disk.unlink_all, [self.path])
        finally:
            self.release()

    def release(self) -> None:
        """Let another request have the session; may be called more than once."""
        self._hops.let_go()

    async def _commit(self, digest: Digest) -> None:
        if await self._hexdigest(digest) != digest.encoded:
            raise DigestInvalid(f"the bytes that were uploaded are not {digest}")
        # In place of the same bytes, if they are here: else the time that this takes would tell that
        # somebody has them, whose repository the caller may not be let to read.
        blob = Descriptor(OCTET_STREAM, digest, self.offset)
        try:
            await self._workshop.hosted.add_blob(self._repository, blob, partial(self._become, blob))
        except OSError:
            if not self.is_over and not self.path.exists():
                self._take_back(digest)
            raise
        await self._end()

    async def _end(self) -> None:
        """The session is over; what is left of its file goes, now or with a sweep."""
        self.is_over = True
        with contextlib.suppress(OSError):
            await self._workshop.threads.run(disk.unlink_all, [self.path])
        self.release()

    async def _become(self, blob: Descriptor) -> None:
        """Have the file be the blob's, whole on the disk.

        Raises:
            OSError: The disk refused.
        """
        target = self._workshop.layout.content(ContentKind.BLOB, blob.digest)
        try:
            await self._workshop.threads.run(disk.commit, self._fd, self.path, target)
        except OSError as error:
            if error.errno == errno.EIO:
                await self._end()
            raise

    def _take_back(self, digest: Digest) -> None:
        """Have the bytes under the session's name again; if others hold the blob by now, it is over."""
        try:
            self.is_over = not self._workshop.blobs.give_back(digest, self.path)
        except OSError:
            self.is_over = True

    async def _hexdigest(self, digest: Digest) -> str:
        """The digest of all bytes, by the algorithm of `digest`."""
        if digest.algorithm == "sha256":
            await self._catch_up()
            return self._hasher.hexdigest()
        hasher = digest.hasher()
        await self._hash(hasher, 0)
        return hasher.hexdigest()

    async def _catch_up(self) -> None:
        hashed = self._hashed
        if hashed == self.offset:
            return
        try:
            await self._hash(self._hasher, hashed)
        except OSError:
            self._hasher, self._hashed = hashlib.sha256(), 0
            raise
        self._hashed = self.offset

    async def _hash(self, hasher: Hasher, start: int) -> None:
        """Hash what is written from `start`, a slice at a time: others need the threads too."""
        while start < self.offset:
            stop = min(start + HASH_SLICE_BYTES, self.offset)
            await self._workshop.threads.run(disk.hash_range, self._fd, start, stop, hasher)
            start = stop
