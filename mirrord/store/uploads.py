"""Uploads: the blobs that are being pushed, each a file that grows from request to request.

A session's name contains marks of its repository and its client (upload_counts.py), so that it is valid for
no other repository and needs no row. Its only state is its file: after a restart the length of that is the
offset. Between two requests a session costs an entry here and no descriptor; only those that were used last
keep theirs, so that a blob that arrives in thousands of small chunks is not opened for each of them.

sha256 is computed as bytes arrive. The running hashes of idle sessions are kept, up to a limit: a hash
that was dropped, or lost with a restart, is computed from the file before the commit, as is a digest of
another algorithm.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import attrs
from cachetools import LRUCache

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, UploadBusy
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import RepositoryName
from mirrord.store import disk
from mirrord.store.blobs import BlobStore
from mirrord.store.contents import Contents
from mirrord.store.hashed_file import HashedFile, IdleFile, RunningHash, idle_files
from mirrord.store.hosted_files import HostedFiles
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.layout import Layout, footprint
from mirrord.store.threads import Threads
from mirrord.store.upload_counts import CROWDED_SECONDS, SessionName, UploadCounts

MAX_HASHES = 256

MAX_OPEN = 16
"""The most idle sessions whose files stay open."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
_IN_DOUBT = frozenset({errno.EIO, errno.ETIMEDOUT})


@attrs.frozen(eq=False, kw_only=True)
class UploadContext:
    """The parts of the store that an upload's commit needs."""

    layout: Layout
    contents: Contents
    blobs: BlobStore
    hosted: HostedIndex
    files: HostedFiles


@attrs.define(eq=False, kw_only=True)
class Upload(HashedFile):
    """A session while a request uses it; implements `UploadFile` of `hosted/ports.py`.

    `is_over` if there is nothing left of it.
    """

    session: str
    path: Path
    _repository: RepositoryName
    _context: UploadContext
    _keep_open: Callable[[int], None]
    is_over: bool = attrs.field(default=False, init=False)

    async def write(self, chunk: bytes) -> None:
        """Append; on return `offset` has grown by all of `chunk`."""
        await self.append(chunk)

    async def commit(self, digest: Digest) -> None:
        """Make it a blob, linked to its repository; the session is over. Completes even if cancelled.

        Raises:
            DigestInvalid: The bytes are not what `digest` names; the session stays.
            OSError: The disk failed; the session stays, unless an fsync failed or did not return in time:
                then the bytes on the disk are in doubt, and are discarded.
        """
        await self.finish(self._commit(digest))

    async def discard(self) -> None:
        """Delete it; the session is over. If the disk fails, a later start finds the file."""
        if self.is_over:
            return
        self.is_over = True
        try:
            await self.finish(self.unlink(self.path))
        finally:
            self.release()

    async def _commit(self, digest: Digest) -> None:
        """Verify, fsync, rename, fsync the folder, index: the blob exists from the last of these on.

        An error before that leaves the session as it was: the file is renamed back, unless another
        repository has linked to it meanwhile. If the disk hangs the file may yet become a blob, so the
        session is over. It replaces a file of the same bytes, if there is one: otherwise the duration of a
        commit would reveal what repositories have that the caller may not read.
        """
        if not await self.matches(digest):
            raise DigestInvalid(f"the bytes that were uploaded are not {digest}")
        try:
            await self._move_and_link(digest)
        except OSError as error:
            if error.errno == errno.ETIMEDOUT:
                self.is_over = True
            elif not self.is_over and not self.path.exists():
                await self._move_back(digest)
            raise
        self.is_over = True
        self.release()

    async def _move_and_link(self, digest: Digest) -> None:
        contents = self._context.contents
        target = self._context.layout.content(ContentKind.BLOB, digest, is_hosted=True)
        async with contents.claimed(ContentKind.BLOB, digest):
            was_cached = contents.is_cached(ContentKind.BLOB, digest)
            try:
                await self.move(self.path, target)
            except OSError as error:
                if error.errno in _IN_DOUBT:
                    await self._end()
                raise
            contents.add(ContentKind.BLOB, digest, self.offset)
            blob = Descriptor(OCTET_STREAM, digest, self.offset)
            await self._context.hosted.link_blob(self._repository, blob)
            if was_cached:
                await self._context.files.drop_cached(ContentKind.BLOB, digest)

    async def _end(self) -> None:
        """End the session; what is left of its file is deleted, now or by a later sweep."""
        self.is_over = True
        with contextlib.suppress(OSError):
            await self.unlink(self.path)
        self.release()

    async def _move_back(self, digest: Digest) -> None:
        """Rename the file to the session's name; if others use the blob by now, the session is over."""
        try:
            self.is_over = not await self._context.blobs.move_back(digest, self.path)
        except OSError:
            self.is_over = True

    def _close(self, fd: int) -> None:
        """Close the file, or leave it open for the next request."""
        if self.is_over:
            self._threads.close(fd)
        else:
            self._keep_open(fd)
        self._report_closed()


@attrs.define(eq=False, kw_only=True)
class Uploads:
    """Sessions by name; implements `UploadSessions` of `hosted/ports.py`.

    `now` is service time; `token` returns 32 unguessable hexadecimal digits.
    """

    _context: UploadContext
    _threads: Threads
    _now: Callable[[], float]
    _token: Callable[[], str]
    counts: UploadCounts = attrs.field(init=False)
    _idle: dict[str, IdleFile] = attrs.field(init=False)
    _opening: set[str] = attrs.field(factory=set, init=False)
    _busy: dict[str, Upload] = attrs.field(factory=dict, init=False)
    _open_files: dict[str, int] = attrs.field(factory=dict, init=False)
    _hashes: LRUCache[str, RunningHash] = attrs.field(factory=lambda: LRUCache(MAX_HASHES), init=False)

    def __attrs_post_init__(self) -> None:
        self._idle = idle_files(self._context.layout.uploads, self._now())
        self.counts = UploadCounts.of(self._idle)

    @property
    def total_bytes(self) -> int:
        """The disk space of all sessions."""
        busy = sum(footprint(upload.offset) for upload in self._busy.values())
        return busy + sum(footprint(session.size) for session in self._idle.values())

    @property
    def total_entries(self) -> int:
        """The number of sessions."""
        return len(self._busy) + len(self._idle)

    @property
    def total_hashes(self) -> int:
        """The number of idle sessions whose running hash is kept."""
        return len(self._hashes)

    async def begin(self, repository: RepositoryName, client: str) -> Upload:
        """Begin a new session, counted as one of this client.

        Raises:
            TooManyRequests, Unavailable: There are too many.
            OSError: The disk failed, or the index is damaged.
        """
        self._context.hosted.require_writable()
        name = SessionName.of(self._token(), repository, client)
        self.counts.check(name)
        path, session = self._context.layout.uploads / str(name), str(name)
        self.counts.add(session)
        try:
            fd = await disk.open_file(self._threads, path, _NEW)
        except BaseException:
            self.counts.remove(session)
            raise
        return self._open(repository, session, path, fd)

    def offset(self, repository: RepositoryName, session: str) -> int | None:
        """Return the size of the session of this name and repository; None if there is none."""
        found = self._find(repository, session)
        return None if found is None else found.size

    async def find(self, repository: RepositoryName, session: str) -> Upload | None:
        """Open the session of this name and repository; None if there is none.

        Raises:
            OSError: The disk failed, or the index is damaged; the session stays.
        """
        self._context.hosted.require_writable()
        found = self._find(repository, session)
        if found is None:
            return None
        fd = self._open_files.pop(session, None)
        if fd is not None and not os.fstat(fd).st_nlink:
            self._threads.close(fd)
            fd = None
        if fd is None:
            self._opening.add(session)
            try:
                fd = await disk.open_file(self._threads, found.path, os.O_RDWR)
            except FileNotFoundError:
                self._forget(session)
                return None
            finally:
                self._opening.remove(session)
        return self._open(repository, session, found.path, fd)

    def expired(self, seconds: float) -> list[str]:
        """Return the sessions that have been idle for so long in service time, or too long in a crowd."""
        before, crowded_before = self._now() - seconds, self._now() - CROWDED_SECONDS
        return [
            name
            for name, session in self._idle.items()
            if session.since <= before or (session.since <= crowded_before and self.counts.is_crowded(name))
        ]

    async def remove(self, names: Sequence[str]) -> int:
        """Delete sessions, unless they are in use again; return the bytes of disk that were freed.

        If the disk fails they are gone all the same, until the next start.
        """
        idle = [name for name in names if name not in self._opening]
        removed = [session for name in idle if (session := self._forget(name)) is not None]
        await self._threads.run(disk.unlink_all, [session.path for session in removed])
        return sum(footprint(session.size) for session in removed)

    def release_all(self) -> None:
        """Release every session that a request still uses, and close the files of the idle ones."""
        for upload in list(self._busy.values()):
            upload.release()
        for session in list(self._open_files):
            self._close(session)

    def _find(self, repository: RepositoryName, session: str) -> IdleFile | None:
        name = SessionName.parse(session)
        if name is None or not name.is_in(repository):
            return None
        if session in self._busy or session in self._opening:
            raise UploadBusy("another request writes to this upload")
        return self._idle.get(session)

    def _open(self, repository: RepositoryName, session: str, path: Path, fd: int) -> Upload:
        self._idle.pop(session, None)
        upload = Upload(
            session=session,
            path=path,
            repository=repository,
            context=self._context,
            keep_open=partial(self._keep_open, session),
            offset=os.fstat(fd).st_size,
            running=self._hashes.pop(session, RunningHash("sha256")),
            fd=fd,
            threads=self._threads,
            closed=lambda: self._ended(upload),
        )
        self._busy[session] = upload
        return upload

    def _keep_open(self, session: str, fd: int) -> None:
        """Keep the file of a session open, and close the one that has not been used for the longest time."""
        self._open_files[session] = fd
        if len(self._open_files) > MAX_OPEN:
            self._close(next(iter(self._open_files)))

    def _close(self, session: str) -> None:
        """Close the file of an idle session, if it is open, with the time since when it is idle."""
        fd = self._open_files.pop(session, None)
        if fd is not None:
            self._threads.close(fd, self._idle[session].since)

    def _ended(self, upload: Upload) -> None:
        """Keep a session that its request has released, unless it is over."""
        del self._busy[upload.session]
        if upload.is_over:
            self.counts.remove(upload.session)
            return
        self._idle[upload.session] = IdleFile(upload.path, upload.offset, self._now())
        self._hashes[upload.session] = upload.running

    def _forget(self, name: str) -> IdleFile | None:
        self._close(name)
        self._hashes.pop(name, None)
        forgotten = self._idle.pop(name, None)
        if forgotten is not None:
            self.counts.remove(name)
        return forgotten
