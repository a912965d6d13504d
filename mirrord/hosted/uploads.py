"""Pushing blobs: upload sessions that are begun, appended to, finished or cancelled.

The bytes of a session stay on the disk even if the request that sent them fails: a client that disconnected
continues where it stopped. So a failed request only releases the session. An exception is a blob that arrives
in a single request: it has no session by which a client could continue.

Room on the disk is checked before bytes are accepted: for all of them if the client announces their number,
and then for each stretch ahead of what has arrived. The file system reports only what is free now, and eight
clients that begin to push at once would each find enough. So bytes are reserved, and count as used until they
are written or released; a stretch at a time, so that a client that announces much and sends little blocks
little room.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import attrs

from mirrord.hosted.ports import HostedSpace, UploadFile, UploadSessions
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUploadUnknown, ContentTooLarge, SizeInvalid, Unavailable
from mirrord.oci.names import RepositoryName
from mirrord.oci.routes import ChunkRange
from mirrord.repository import ChunkOutOfOrder, RequestBody, UploadProgress

STRETCH_BYTES = 32 * 1024 * 1024
"""The most that one body has reserved at a time."""


@attrs.define(eq=False)
class SpaceReservations:
    """The reservations of all bodies; `total` is their sum in bytes."""

    _space: HostedSpace
    total: int = attrs.field(default=0, init=False)

    @contextmanager
    def open(self) -> Iterator["SpaceReservation"]:
        """Open the reservation of one body, and release it on exit."""
        reservation = SpaceReservation(self)
        try:
            yield reservation
        finally:
            reservation.consume(reservation.left)

    async def check(self, size: int) -> None:
        """Check that there is room for `size` bytes beyond what is reserved.

        Raises:
            Unavailable: There is none.
        """
        if not await self._space.make_room_for_push(self.total + size):
            raise Unavailable("there is no room for this on the disk")


@attrs.define(eq=False)
class SpaceReservation:
    """The reservation of one body: `left` bytes may still be written."""

    _reservations: SpaceReservations
    left: int = attrs.field(default=0, init=False)

    async def renew(self, size: int) -> None:
        """Reserve `size` bytes in place of what is left, at once: concurrent checks see them as used.

        Raises:
            Unavailable: There is no room for them.
        """
        self.consume(self.left - size)
        await self._reservations.check(0)

    def consume(self, size: int) -> None:
        """Release `size` bytes, which are written now and visible to the file system."""
        self.left -= size
        self._reservations.total -= size


@attrs.frozen(eq=False)
class Uploader:
    """Accepts blobs of at most `max_bytes` each; None leaves the disk as the only limit."""

    _sessions: UploadSessions
    _space: HostedSpace
    _max_bytes: int | None = None
    _reservations: SpaceReservations = attrs.field(
        default=attrs.Factory(lambda self: SpaceReservations(self._space), takes_self=True), init=False
    )

    async def begin(self, name: RepositoryName, client: str) -> UploadProgress:
        """Begin a session of this client, which any later request may continue.

        Raises:
            TooManyRequests, Unavailable: There are too many.
        """
        upload = await self._sessions.begin(name, client)
        upload.release()
        return UploadProgress(upload.session, upload.offset)

    def progress(self, name: RepositoryName, session: str) -> UploadProgress:
        """Return the progress of a session.

        Raises:
            BlobUploadUnknown: There is no such session.
        """
        offset = self._sessions.offset(name, session)
        if offset is None:
            raise _unknown()
        return UploadProgress(session, offset)

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
        async with self._found(name, session) as upload:
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
        async with self._found(name, session) as upload:
            await self._write(upload, body, chunk)
            await upload.commit(digest)

    async def push(self, name: RepositoryName, digest: Digest, body: RequestBody, client: str) -> None:
        """Commit a blob that arrives in one request. Durable on return.

        Raises:
            DigestInvalid: The bytes do not match `digest`; nothing is kept.
            RegistryError: As `begin` and `append`.
        """
        self._check(0, body, None)
        upload = await self._sessions.begin(name, client)
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
        async with self._found(name, session) as upload:
            await upload.discard()

    @asynccontextmanager
    async def _found(self, name: RepositoryName, session: str) -> AsyncIterator[UploadFile]:
        upload = await self._sessions.find(name, session)
        if upload is None:
            raise _unknown()
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


def _unknown() -> BlobUploadUnknown:
    return BlobUploadUnknown("no such upload in this repository")
