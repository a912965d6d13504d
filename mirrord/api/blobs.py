"""Blobs: `/v2/<repository>/blobs/<digest>`, whole or in ranges."""

from collections.abc import Callable
from typing import ClassVar

import attrs

from mirrord.api.body_streams import BlobStream, RangeStream, SendContext
from mirrord.api.conditionals import IMMUTABLE, allows_range, etag, matches
from mirrord.api.ranges import ByteRange, multipart, select
from mirrord.api.registry_request import RegistryRequest
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RangeInvalid, Unsupported
from mirrord.oci.manifests import OCTET_STREAM
from mirrord.oci.routes import BlobRoute
from mirrord.repository import BlobResult, RepositoryWriter

_CONTENT_TYPE: Header = (b"Content-Type", OCTET_STREAM.encode("ascii"))


@attrs.frozen
class BlobHandler:
    """Responds with blobs: from memory, from a file that may still grow, or passed through; deletes them."""

    methods: ClassVar[tuple[bytes, ...]] = (b"GET", b"HEAD", b"DELETE")

    _context: SendContext
    _make_boundary: Callable[[], str]

    async def read(self, request: RegistryRequest, route: BlobRoute) -> Response:
        """Return a blob, or some ranges of it; 304 to a client that has it, without a download."""
        digest = route.digest
        is_match = matches(request.header(b"If-None-Match"), digest)
        if request.is_head or is_match:
            found = await request.repository.head_blob(digest)
            if is_match:
                return Response(304, _headers(digest), None, cache=found.cache)
            return Response(200, (_CONTENT_TYPE, *_headers(digest)), found.size, cache=found.cache)
        opened = await request.repository.open_blob(digest, request.client)
        try:
            return await self._respond(opened, digest, _ranges(request, digest, opened.blob.size))
        except BaseException:
            opened.blob.close()
            raise

    async def write(self, request: RegistryRequest, route: BlobRoute, writer: RepositoryWriter) -> Response:
        """Delete a blob; blobs are pushed through uploads (uploads.py)."""
        if request.method != b"DELETE":
            raise Unsupported("this path does not support that method", allow=self.methods)
        await writer.delete_blob(route.digest)
        return Response.whole(202, b"", API_VERSION)

    async def _respond(
        self, opened: BlobResult, digest: Digest, ranges: tuple[ByteRange, ...] | None
    ) -> Response:
        headers, blob = _headers(digest), opened.blob
        match ranges:
            case None:
                return self._stream(opened, 200, [ByteRange(0, blob.size)], headers=(_CONTENT_TYPE, *headers))
            case ():
                response = _unsatisfiable(opened)
                blob.close()
                return response
            case (only,):
                content_range = (b"Content-Range", only.content_range(blob.size).encode("ascii"))
                return await self._one(opened, only, (_CONTENT_TYPE, content_range, *headers))
        boundary = self._make_boundary()
        parts = multipart(ranges, blob.size, OCTET_STREAM, boundary)
        content_type = (b"Content-Type", f"multipart/byteranges; boundary={boundary}".encode("ascii"))
        return self._stream(opened, 206, parts, headers=(content_type, *headers))

    async def _one(self, opened: BlobResult, range_: ByteRange, headers: tuple[Header, ...]) -> Response:
        """Return one range; straight from the upstream if the download is far from it."""
        blob = opened.blob
        if blob.readable < range_.stop:
            body = await blob.pass_through(range_.first, range_.stop)
            if body is not None:
                blob.close()
                stream = RangeStream(body, range_, self._context)
                return Response(206, headers, len(range_), stream=stream.send, cache=CacheResult.partial())
        return self._stream(opened, 206, [range_], headers=headers)

    def _stream(
        self,
        opened: BlobResult,
        status: int,
        parts: list[bytes | ByteRange],
        *,
        headers: tuple[Header, ...],
    ) -> Response:
        blob, body = opened.blob, opened.blob.body
        length = sum(map(len, parts))
        if body is None:
            stream = BlobStream(blob, parts, self._context)
            return Response(status, headers, length, stream=stream.send, cache=opened.cache)
        blob.close()
        pieces = [part if isinstance(part, bytes) else body[part.first : part.stop] for part in parts]
        return Response(status, headers, length, body=b"".join(pieces), cache=opened.cache)


def _headers(digest: Digest) -> tuple[Header, ...]:
    return (
        (b"Docker-Content-Digest", str(digest).encode("ascii")),
        (b"ETag", etag(digest).encode("ascii")),
        (b"Accept-Ranges", b"bytes"),
        IMMUTABLE,
    )


def _ranges(request: RegistryRequest, digest: Digest, size: int) -> tuple[ByteRange, ...] | None:
    header = request.header(b"Range")
    if header is None or not allows_range(request.header(b"If-Range"), digest):
        return None
    return select(header, size)


def _unsatisfiable(opened: BlobResult) -> Response:
    content_range = (b"Content-Range", b"bytes */%d" % opened.blob.size)
    error = RangeInvalid("no byte of this blob is in the range")
    return attrs.evolve(Response.of_error(error, content_range), cache=opened.cache)
