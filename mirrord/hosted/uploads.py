"""Pushing blobs: sessions that are begun, written to, asked about, finished or given up.

What a session has is on the disk whatever becomes of its request: a client that left goes on where it
stopped. So nothing is undone when a request fails in the middle; it lets go of the session, and that is
all. Only a blob that was to come whole in one request has no name by which anybody could go on.

Whether there is room is asked before bytes are taken: for all of them where the client says how many
there will be, and then for each stretch ahead of what has come, since others take from the same room.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

import attrs

from mirrord.hosted.ports import HostedSpace, RequestBody, UploadFile, UploadSessions
from mirrord.hosted.space import STRETCH_BYTES, SpaceReservations
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    BlobUploadInvalid,
    BlobUploadUnknown,
    RangeInvalid,
    SizeInvalid,
)
from mirrord.oci.names import RepositoryName

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?", re.ASCII)


@attrs.frozen
class UploadProgress:
    """How far an upload is: `offset` bytes are there."""

    session: str
    offset: int


@attrs.frozen
class ChunkRange:
    """The place in the blob that a chunk says it has: from `first` to before `stop`."""

    first: int
    stop: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a Content-Range of an upload, `0-99`; `bytes 0-99/100` is taken too.

        Raises:
            BlobUploadInvalid: It is none.
        """
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None:
            raise BlobUploadInvalid("the Content-Range of an upload reads 0-99", detail=text[:64])
        first, last = map(int, match.groups())
        if last < first:
            raise BlobUploadInvalid("the Content-Range ends before it begins", detail=text[:64])
        return cls(first, last + 1)


class ChunkOutOfOrder(RangeInvalid):
    """A chunk does not begin where the last one ended; `progress` says where that is."""

    def __init__(self, progress: UploadProgress) -> None:
        super().__init__("the chunk does not follow the last one", detail={"offset": progress.offset})
        self.progress = progress


class ContentTooLarge(SizeInvalid):
    """More than an upload may have."""

    status = 413


@attrs.frozen(eq=False)
class Uploader:
    """Takes blobs; `max_bytes` bounds one of them, None where the disk alone does."""

    _uploads: UploadSessions
    _room: HostedSpace
    _max_bytes: int | None = None
    _claims: SpaceReservations = attrs.field(
        default=attrs.Factory(lambda self: SpaceReservations(self._room), takes_self=True), init=False
    )

    def begin(self, repository: RepositoryName) -> UploadProgress:
        """A new session, that any later request may go on with."""
        upload = self._uploads.begin(repository)
        upload.release()
        return UploadProgress(upload.session, upload.offset)

    def progress(self, repository: RepositoryName, session: str) -> UploadProgress:
        """How far a session is.

        Raises:
            BlobUploadUnknown: There is none.
        """
        with self._found(repository, session) as upload:
            return UploadProgress(session, upload.offset)

    async def append(
        self, repository: RepositoryName, session: str, body: RequestBody, span: ChunkRange | None
    ) -> UploadProgress:
        """Take a chunk, or a stream of unknown length.

        Raises:
            BlobUploadUnknown: There is no such session.
            ChunkOutOfOrder: The chunk does not begin where the last one ended; nothing of it is taken.
            SizeInvalid: It is not as long as it says, or the blob gets too large.
            Unavailable: There is no room.
        """
        with self._found(repository, session) as upload:
            await self._take(upload, body, span)
            return UploadProgress(session, upload.offset)

    async def finish(
        self,
        repository: RepositoryName,
        session: str,
        digest: Digest,
        body: RequestBody,
        span: ChunkRange | None,
    ) -> None:
        """Take what is still to come, and make it a blob of the repository. Durable on return.

        Raises:
            DigestInvalid: The bytes are not what `digest` names; the session stays.
            RegistryError: As `append` does.
        """
        with self._found(repository, session) as upload:
            await self._take(upload, body, span)
            await upload.commit(digest)

    async def push(self, repository: RepositoryName, digest: Digest, body: RequestBody) -> None:
        """Take a blob in one piece. Durable on return.

        Raises:
            DigestInvalid: The bytes are not what `digest` names; nothing stays.
            RegistryError: As `append` does.
        """
        self._check(0, body, None)
        upload = self._uploads.begin(repository)
        try:
            await self._take(upload, body, None)
            await upload.commit(digest)
        except Exception:
            with suppress(OSError):
                await upload.discard()
            raise
        finally:
            upload.release()

    async def cancel(self, repository: RepositoryName, session: str) -> None:
        """Throw away what a session has.

        Raises:
            BlobUploadUnknown: There is none.
        """
        with self._found(repository, session) as upload:
            await upload.discard()

    @contextmanager
    def _found(self, repository: RepositoryName, session: str) -> Iterator[UploadFile]:
        upload = self._uploads.find(repository, session)
        if upload is None:
            raise BlobUploadUnknown("no such upload in this repository")
        try:
            yield upload
        finally:
            upload.release()

    def _check(self, offset: int, body: RequestBody, span: ChunkRange | None) -> None:
        """Refuse what can be refused by the head of the request alone."""
        if span is not None and body.length not in {None, span.stop - span.first}:
            raise SizeInvalid("the body is not as long as its Content-Range says")
        self._bound(offset + (body.length or 0))

    def _bound(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise ContentTooLarge(f"a blob may have {self._max_bytes} bytes here")

    async def _take(self, upload: UploadFile, body: RequestBody, span: ChunkRange | None) -> None:
        first, length = upload.offset, body.length
        if span is not None and span.first != first:
            raise ChunkOutOfOrder(UploadProgress(upload.session, first))
        self._check(first, body, span)
        if length:
            await self._claims.check(length)
        with self._claims.open() as claim:
            while chunk := await body.read():
                self._bound(upload.offset + len(chunk))
                if len(chunk) > claim.left:
                    rest = STRETCH_BYTES if length is None else first + length - upload.offset
                    await claim.widen(min(STRETCH_BYTES, rest))
                await upload.write(chunk)
                claim.fill(len(chunk))
                del chunk  # the next may be long in coming, and a thousand clients wait
        if span is not None and upload.offset != span.stop:
            raise SizeInvalid("the body was not as long as its Content-Range says")
