"""Body streams: the bytes of a response body, sent to one client at the pace of that client.

Each is a coroutine that repeats four steps: wait until the client has room, wait until the download has
written more, read a chunk, write it. So there is one order of events and one place to cancel. Nothing is read
before there is room for it, and each stream reads with an offset of its own: a slow client costs no memory
and delays no other client.

Over TCP a connection sends a file by itself, plain or encrypted (http/file_server.py). Elsewhere (Unix
sockets, bytes from an upstream, many small ranges) the stream is the push producer of the request. A pull
producer would be simpler, but an idle one is called in every iteration of the reactor: 316,670 times a
second, measured.

The headers have been sent by then. So after any failure the connection is closed short of Content-Length:
`send` raises, and the root aborts the response.
"""

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.api.ranges import ByteRange
from mirrord.http.file_server import FileServer
from mirrord.http.page_cache import PageCache
from mirrord.http.request import BodyWriter, MirrorRequest
from mirrord.observe.metrics import Metrics
from mirrord.oci.errors import UpstreamRefused
from mirrord.repository import BlobReader, RangeBody

CHUNK_BYTES = 256 * 1024
"""The size of a read and a write: more than Twisted buffers, so that each write pauses the producer."""

STRETCH_BYTES = 8 * 1024 * 1024
"""The most that one call of `send_file` sends; the counter of sent bytes is updated after each."""


SENDFILE_BYTES = 32 * 1024
"""The mean size of ranges from which on each is sent by itself.

That takes a turn of the reactor, some 50 microseconds, and so 50 ms for the 1,024 ranges that podman requests
at once. Smaller ranges are read and written together instead.
"""


@attrs.frozen
class SendContext:
    """The objects that all body streams share."""

    pages: PageCache
    metrics: Metrics


@attrs.frozen
class BlobStream:
    """Ranges of a blob, and the bytes between them."""

    _blob: BlobReader
    _parts: Sequence[bytes | ByteRange]
    _context: SendContext

    async def send(self, request: MirrorRequest) -> None:
        """Send all parts, and close the blob.

        Raises:
            UpstreamError: The download failed.
            OSError: The disk failed.
            EOFError: The file is shorter than the blob.
        """
        try:
            transport: Any = request.channel.transport
            if isinstance(transport, FileServer) and not self._is_fragmented():
                await self._send_files(request, transport)
            else:
                with BodyWriter(request, self._context.metrics.sent) as writer:
                    await self._write(writer)
        finally:
            self._blob.close()

    def _is_fragmented(self) -> bool:
        return len(self._parts) > 1 and sum(map(len, self._parts)) < SENDFILE_BYTES * len(self._parts)

    async def _send_files(self, request: MirrorRequest, transport: FileServer) -> None:
        for part in self._parts:
            if isinstance(part, bytes):
                request.write(part)
                continue
            offset = part.first
            while offset < part.stop:
                offset += await self._send_file(request, transport, offset, part.stop)

    async def _send_file(self, request: MirrorRequest, transport: FileServer, offset: int, stop: int) -> int:
        count = min(stop, offset + STRETCH_BYTES, await self._readable(offset)) - offset
        before = transport.file_bytes
        try:
            await transport.send_file(self._blob.fd, offset, count)
        finally:
            sent = transport.file_bytes - before
            request.sentLength += sent
            self._context.metrics.sent(sent)
        return count

    async def _write(self, writer: BodyWriter) -> None:
        """Write the parts, joined to chunks; what has been read is not held back while the blob grows."""
        chunk = _Chunk(writer)
        for part in self._parts:
            if isinstance(part, bytes):
                chunk.add(part)
                continue
            offset = part.first
            while offset < part.stop:
                if chunk.size >= CHUNK_BYTES or self._blob.readable <= offset:
                    await chunk.flush()
                await writer.has_room()
                stop = min(part.stop, offset + CHUNK_BYTES - chunk.size, await self._readable(offset))
                try:
                    offset += chunk.add(await self._read(offset, stop))
                except EOFError:
                    await chunk.flush()
                    raise
        await chunk.flush()

    async def _readable(self, offset: int) -> int:
        readable = self._blob.readable
        return readable if readable > offset else await self._blob.grown(offset)

    async def _read(self, offset: int, stop: int) -> bytes:
        chunk = self._context.pages.read(self._blob.fd, offset, stop)
        if isinstance(chunk, Deferred):
            chunk = await chunk
        if not chunk:
            raise EOFError(f"the file ends at {offset}")
        return chunk


@attrs.define(eq=False)
class _Chunk:
    """Pieces of a body that are written together."""

    _writer: BodyWriter
    size: int = attrs.field(default=0, init=False)
    _pieces: list[bytes] = attrs.field(factory=list, init=False)

    def add(self, piece: bytes) -> int:
        """Add a piece, and return its size."""
        self._pieces.append(piece)
        self.size += len(piece)
        return len(piece)

    async def flush(self) -> None:
        """Write the pieces, once the client has room for them."""
        if self.size:
            await self._writer.has_room()
            pieces, self._pieces, self.size = self._pieces, [], 0
            self._writer.write(b"".join(pieces))


@attrs.frozen
class BytesStream:
    """A large body in memory.

    A write copies its bytes into the connection's buffer. Sent in chunks, a connection to a slow client
    buffers one chunk, and all connections share the body.
    """

    _body: bytes
    _context: SendContext

    async def send(self, request: MirrorRequest) -> None:
        """Send the body, chunk by chunk."""
        with BodyWriter(request, self._context.metrics.sent) as writer:
            for offset in range(0, len(self._body), CHUNK_BYTES):
                await writer.has_room()
                writer.write(self._body[offset : offset + CHUNK_BYTES])


@attrs.frozen
class RangeStream:
    """A range of a blob that comes straight from the upstream."""

    _body: RangeBody
    _range: ByteRange
    _context: SendContext

    async def send(self, request: MirrorRequest) -> None:
        """Relay the range, no faster than the client reads it.

        Raises:
            UpstreamError: The upstream failed, or sent another range.
        """
        try:
            with BodyWriter(request, self._context.metrics.sent) as writer:
                await self._relay(writer)
        finally:
            self._body.abort()

    async def _relay(self, writer: BodyWriter) -> None:
        offset = self._body.offset
        if offset > self._range.first:
            raise UpstreamRefused("the upstream's range begins after the requested one")
        while offset < self._range.stop:
            await writer.has_room()
            chunk = await self._body.read()
            if not chunk:
                raise UpstreamRefused("the upstream's range ended early")
            requested = chunk[max(0, self._range.first - offset) : self._range.stop - offset]
            offset += len(chunk)
            writer.write(requested)
