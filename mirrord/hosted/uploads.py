"""Pushing blobs: upload sessions that are begun, appended to, finished or cancelled.

The bytes of a session stay on the disk even if the request that sent them fails: a client that disconnected
continues where it stopped. So a failed request only releases the session. An exception is a blob that arrives
in a single request: it has no session by which a client could continue.

Room on the disk is checked before bytes are accepted: for all of them if the client announces their number,
and then for each stretch ahead of what has arrived, since other uploads consume the same room.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs

from mirrord.hosted.ports import HostedSpace, UploadFile, UploadSessions
from mirrord.hosted.space import STRETCH_BYTES, SpaceReservations
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUploadUnknown, ContentTooLarge, SizeInvalid
from mirrord.oci.names import RepositoryName
from mirrord.oci.routes import ChunkRange
from mirrord.repository import ChunkOutOfOrder, RequestBody, UploadProgress


@attrs.frozen(eq=False)
class Uploader:
    """Accepts blobs of at most `max_bytes` each; None leaves the disk as the only limit."""

    _sessions: UploadSessions
    _space: HostedSpace
    _max_bytes: int | None = None
    _reservations: SpaceReservations = attrs.field(
        default=attrs.Factory(lambda self: SpaceReservations(self._space), takes_self=True), init=False
    )

    def begin(self, name: RepositoryName) -> UploadProgress:
        """Begin a session, which any later request may continue."""
        upload = self._sessions.begin(name)
        upload.release()
        return UploadProgress(upload.session, upload.offset)

    def progress(self, name: RepositoryName, session: str) -> UploadProgress:
        """Return the progress of a session.

        Raises:
            BlobUploadUnknown: There is no such session.
        """
        with self._found(name, session) as upload:
            return UploadProgress(session, upload.offset)

    async def append(
        self, name: RepositoryName, session: str, body: RequestBody, chunk: ChunkRange | None
    ) -> UploadProgress:
        """Append a chunk, or a stream of unknown length.

        Raises:
            BlobUploadUnknown: There is no such session.
            ChunkOutOfOrder: The chunk does not begin where the last one ended; nothing was written.
            SizeInvalid: The chunk is not as long as announced, or the blob is too large.
            Unavailable: There is no room.
        """
        with self._found(name, session) as upload:
            await self._write(upload, body, chunk)
            return UploadProgress(session, upload.offset)

    async def finish(
        self,
        name: RepositoryName,
        session: str,
        digest: Digest,
        *,
        body: RequestBody,
        chunk: ChunkRange | None,
    ) -> None:
        """Append the rest, and commit the blob. Durable on return.

        Raises:
            DigestInvalid: The bytes do not match `digest`; the session stays.
            RegistryError: As `append`.
        """
        with self._found(name, session) as upload:
            await self._write(upload, body, chunk)
            await upload.commit(digest)

    async def push(self, name: RepositoryName, digest: Digest, body: RequestBody) -> None:
        """Commit a blob that arrives in one request. Durable on return.

        Raises:
            DigestInvalid: The bytes do not match `digest`; nothing is kept.
            RegistryError: As `append`.
        """
        self._check(0, body, None)
        upload = self._sessions.begin(name)
        try:
            await self._write(upload, body, None)
            await upload.commit(digest)
        except Exception:
            with suppress(OSError):
                await upload.discard()
            raise
        finally:
            upload.release()

    async def cancel(self, name: RepositoryName, session: str) -> None:
        """Discard a session.

        Raises:
            BlobUploadUnknown: There is no such session.
        """
        with self._found(name, session) as upload:
            await upload.discard()

    @contextmanager
    def _found(self, name: RepositoryName, session: str) -> Iterator[UploadFile]:
        upload = self._sessions.find(name, session)
        if upload is None:
            raise BlobUploadUnknown("no such upload in this repository")
        try:
            yield upload
        finally:
            upload.release()

    def _check(self, offset: int, body: RequestBody, chunk: ChunkRange | None) -> None:
        """Check the sizes that the head of the request announces."""
        if chunk is not None and body.length not in {None, chunk.stop - chunk.first}:
            raise SizeInvalid("Content-Length and Content-Range do not match")
        self._check_size(offset + (body.length or 0))

    def _check_size(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise ContentTooLarge(f"a blob may have at most {self._max_bytes} bytes")

    async def _write(self, upload: UploadFile, body: RequestBody, chunk: ChunkRange | None) -> None:
        first, length = upload.offset, body.length
        if chunk is not None and chunk.first != first:
            raise ChunkOutOfOrder(UploadProgress(upload.session, first))
        self._check(first, body, chunk)
        if length:
            await self._reservations.check(length)
        with self._reservations.open() as reservation:
            while data := await body.read():
                self._check_size(upload.offset + len(data))
                if len(data) > reservation.left:
                    rest = STRETCH_BYTES if length is None else first + length - upload.offset
                    await reservation.renew(min(STRETCH_BYTES, rest))
                await upload.write(data)
                reservation.consume(len(data))
                del data  # not kept during the wait for the next, by a thousand clients
        if chunk is not None and upload.offset != chunk.stop:
            raise SizeInvalid("the body does not match Content-Range")
