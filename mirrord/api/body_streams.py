"""Senders: a blob's bytes on their way to one client, at the pace of that client.

A sender is a coroutine that does the next thing when the last is done: wait for the client to have
room, wait for the download to have written on, read a chunk, write it. So there is one order to
read, and one place to cancel. Nothing is read before there is room for it, and what is read is read
with an offset of the sender's own: a slow client costs no memory and holds back nobody.

Over TCP a connection sends a file by itself, plain or encrypted (http/file_server.py). Elsewhere (Unix
sockets, bytes from an upstream) the sender is the push producer of the request. A pull producer would
be simpler, but an idle one is called in every turn of the reactor: 316,670 times a second, measured.

The headers are out by then. So whatever fails, the connection is closed short of the promised
length, and that is not done here: `send` raises, and the root breaks the answer off.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.api.ranges import ByteRange
from mirrord.http.body_writer import BodyWriter
from mirrord.http.file_server import FileServer
from mirrord.http.page_cache import PageCache
from mirrord.http.request import MirrorRequest
from mirrord.observe.metrics import Metrics
from mirrord.oci.errors import UpstreamRefused
from mirrord.repository import BlobReader, RangeBody

CHUNK_BYTES = 256 * 1024
"""What is read and written at once: more than Twisted buffers, so that each write asks for a pause."""

STRETCH_BYTES = 8 * 1024 * 1024
"""What `send_file` is given at once: the counter of bytes sent moves that often."""


@attrs.frozen
class SendContext:
    """What every sender needs."""

    pages: PageCache
    metrics: Metrics


@attrs.frozen
class BlobStream:
    """Ranges of a blob, with what stands between them."""

    _blob: BlobReader
    _parts: Sequence[bytes | ByteRange]
    _sending: SendContext

    async def send(self, request: MirrorRequest) -> None:
        """Send all parts, and let go of the blob.

        Raises:
            UpstreamError: The download failed.
            OSError: The disk failed.
            EOFError: The file is shorter than the blob.
        """
        try:
            transport: Any = request.channel.transport
            if isinstance(transport, FileServer):
                await self._send(request, partial(self._send_file, request, transport))
            else:
                with BodyWriter(request, self._sending.metrics.sent) as outlet:
                    await self._send(request, partial(self._write, outlet))
        finally:
            self._blob.close()

    async def _send(self, request: MirrorRequest, send_some: Callable[[int, int], Awaitable[int]]) -> None:
        """Send the parts; `send_some` sends some bytes between two offsets, and says how many."""
        for part in self._parts:
            if isinstance(part, bytes):
                request.write(part)
                continue
            offset = part.first
            while offset < part.stop:
                offset += await send_some(offset, part.stop)

    async def _send_file(self, request: MirrorRequest, transport: FileServer, offset: int, stop: int) -> int:
        count = min(stop, offset + STRETCH_BYTES, await self._readable(offset)) - offset
        before = transport.file_bytes
        try:
            await transport.send_file(self._blob.fd, offset, count)
        finally:
            sent = transport.file_bytes - before
            request.sentLength += sent
            self._sending.metrics.sent(sent)
        return count

    async def _write(self, outlet: BodyWriter, offset: int, stop: int) -> int:
        await outlet.has_room()
        chunk = await self._read(offset, min(stop, offset + CHUNK_BYTES, await self._readable(offset)))
        outlet.write(chunk)
        return len(chunk)

    async def _readable(self, offset: int) -> int:
        readable = self._blob.readable
        return readable if readable > offset else await self._blob.grown(offset)

    async def _read(self, offset: int, stop: int) -> bytes:
        chunk = self._sending.pages.read(self._blob.fd, offset, stop)
        if isinstance(chunk, Deferred):
            chunk = await chunk
        if not chunk:
            raise EOFError(f"the file ends at {offset}")
        return chunk


@attrs.frozen
class BytesStream:
    """A body in memory that is too large to be handed to a client that may not take it.

    What is written is copied into the connection's buffer; this way a connection holds one chunk,
    and all of them share the body.
    """

    _body: bytes
    _sending: SendContext

    async def send(self, request: MirrorRequest) -> None:
        """Send it, chunk by chunk."""
        with BodyWriter(request, self._sending.metrics.sent) as outlet:
            for offset in range(0, len(self._body), CHUNK_BYTES):
                await outlet.has_room()
                outlet.write(self._body[offset : offset + CHUNK_BYTES])


@attrs.frozen
class RangeStream:
    """A range of a blob that comes straight from the upstream."""

    _body: RangeBody
    _wanted: ByteRange
    _sending: SendContext

    async def send(self, request: MirrorRequest) -> None:
        """Relay the range, no faster than the client takes it.

        Raises:
            UpstreamError: The upstream failed, or sends other bytes than these.
        """
        try:
            with BodyWriter(request, self._sending.metrics.sent) as outlet:
                await self._relay(outlet)
        finally:
            self._body.abort()

    async def _relay(self, outlet: BodyWriter) -> None:
        offset = self._body.offset
        if offset > self._wanted.first:
            raise UpstreamRefused("the upstream sends a later range than was asked for")
        while offset < self._wanted.stop:
            await outlet.has_room()
            chunk = await self._body.read()
            if not chunk:
                raise UpstreamRefused("the upstream's range ended early")
            wanted = chunk[max(0, self._wanted.first - offset) : self._wanted.stop - offset]
            offset += len(chunk)
            outlet.write(wanted)
