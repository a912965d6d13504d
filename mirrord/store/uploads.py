"""Uploads: the blobs that are being pushed, each a file that grows from request to request.

A session's name carries a mark of its repository, so that it is good for no other and needs no row. What
there is of it is its file: after a restart its length is the offset. Between two requests a session costs
an entry here and no descriptor.

sha256 runs along as bytes arrive. The running hashes of sessions at rest are kept, but not of thousands:
a hash that was forgotten, or lost with a restart, is made again from the file before the commit, as one
of another algorithm is.
"""

import contextlib
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence

import attrs

from mirrord.oci.digest import Hasher
from mirrord.oci.errors import UploadBusy
from mirrord.oci.names import RepositoryName
from mirrord.store import disk
from mirrord.store.blobs import BlobStore
from mirrord.store.disk import Threads, read_stamp, stamp
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.layout import FILE_MODE, Layout, footprint
from mirrord.store.upload import Session, Upload, UploadContext

MAX_HASHERS = 256

_SESSION = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}", re.ASCII)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@attrs.define(eq=False)
class Uploads:
    """Sessions by name. `now` is service time; `token` gives 32 hexadecimal digits that nobody can guess."""

    _layout: Layout
    _blobs: BlobStore
    _hosted: HostedIndex
    _threads: Threads
    _now: Callable[[], float]
    _token: Callable[[], str]
    _resting: dict[str, Session] = attrs.field(factory=dict, init=False)
    _busy: dict[str, Upload] = attrs.field(factory=dict, init=False)
    _hashers: OrderedDict[str, tuple[Hasher, int]] = attrs.field(factory=OrderedDict, init=False)

    def __attrs_post_init__(self) -> None:
        for path in self._layout.uploads.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                resting_since = read_stamp(path, found, self._now())
                self._resting[path.name] = Session(path.name, path, found.st_size, resting_since)

    @property
    def total_bytes(self) -> int:
        """What all sessions take of the disk."""
        busy = sum(footprint(upload.offset) for upload in self._busy.values())
        return busy + sum(footprint(session.size) for session in self._resting.values())

    @property
    def total_entries(self) -> int:
        """How many sessions there are."""
        return len(self._busy) + len(self._resting)

    def begin(self, repository: RepositoryName) -> Upload:
        """A new session.

        Raises:
            OSError: The disk refused.
        """
        name = f"{self._token()}-{_mark(repository)}"
        path = self._layout.uploads / name
        fd = os.open(path, _NEW, FILE_MODE)
        return self._open(repository, Session(name, path, 0, self._now()), fd)

    def find(self, repository: RepositoryName, session: str) -> Upload | None:
        """The session of this name and repository; None if there is none.

        Raises:
            UploadBusy: Another request has it.
        """
        if _SESSION.fullmatch(session) is None or not session.endswith(_mark(repository)):
            return None
        if session in self._busy:
            raise UploadBusy("another request writes to this upload")
        found = self._resting.get(session)
        if found is None:
            return None
        try:
            fd = os.open(found.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            self._forget(session)
            return None
        return self._open(repository, attrs.evolve(found, size=os.fstat(fd).st_size), fd)

    def expired(self, seconds: float) -> list[str]:
        """The sessions that nobody touched for so long, while we were in service."""
        before = self._now() - seconds
        return [name for name, session in self._resting.items() if session.resting_since <= before]

    async def remove(self, names: Sequence[str]) -> int:
        """Throw sessions away, unless they are in use again; the bytes of the disk that are free now.

        Raises:
            OSError: The disk refused; they are forgotten all the same, until the next start.
        """
        gone = [session for name in names if (session := self._forget(name)) is not None]
        await self._threads.run(disk.unlink_all, [session.path for session in gone])
        return sum(footprint(session.size) for session in gone)

    def release_all(self) -> None:
        """Let go of every session that a request still has."""
        for upload in list(self._busy.values()):
            upload.release()

    def _open(self, repository: RepositoryName, session: Session, fd: int) -> Upload:
        self._resting.pop(session.name, None)
        hasher, hashed = self._hashers.pop(session.name, (hashlib.sha256(), 0))
        workshop = UploadContext(self._layout, self._blobs, self._hosted, self._threads, self._ended)
        upload = Upload(repository, session, fd, workshop, hasher, hashed)
        self._busy[session.name] = upload
        return upload

    def _ended(self, upload: Upload) -> None:
        """A request has let go: the session rests, unless it is over."""
        del self._busy[upload.session]
        if upload.is_over:
            return
        resting_since = stamp(upload.path, self._now())
        self._resting[upload.session] = Session(upload.session, upload.path, upload.offset, resting_since)
        self._hashers[upload.session] = upload.running_hash
        if len(self._hashers) > MAX_HASHERS:
            self._hashers.popitem(last=False)

    def _forget(self, name: str) -> Session | None:
        self._hashers.pop(name, None)
        return self._resting.pop(name, None)


def _mark(repository: RepositoryName) -> str:
    return hashlib.sha256(str(repository).encode()).hexdigest()[:16]
