"""Blobs: `/v2/<repository>/blobs/<digest>`, whole or in ranges."""

from collections.abc import Callable
from typing import ClassVar

import attrs

from mirrord.api.body_streams import BlobStream, RangeStream, SendContext
from mirrord.api.conditionals import IMMUTABLE, etag, is_held, is_unchanged
from mirrord.api.ports import Blobs
from mirrord.api.ranges import ByteRange, multipart, select
from mirrord.api.resource import RegistryRequest, RepositoryResponse, unsupported
from mirrord.hosted.deletion import HostedDeletion
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RangeInvalid
from mirrord.oci.manifests import OCTET_STREAM
from mirrord.oci.routes import BlobRoute
from mirrord.repository import BlobReader

_OCTETS: Header = (b"Content-Type", OCTET_STREAM.encode("ascii"))


@attrs.frozen
class BlobResource:
    """Answers with blobs, from memory, from a file that may still grow, or passed through."""

    kind: ClassVar[str] = "blob"

    _blobs: Blobs
    _sending: SendContext
    _make_boundary: Callable[[], str]

    async def reply(self, asked: RegistryRequest) -> RepositoryResponse:
        """A blob or some ranges of it; 304 for who holds it, without a download."""
        route = asked.target.route
        assert isinstance(route, BlobRoute)  # noqa: S101 - the root dispatches by type
        digest = route.digest
        has_it = is_held(asked.header(b"If-None-Match"), digest)
        if asked.is_head or has_it:
            found = await self._blobs.head(asked.source, digest)
            if has_it:
                return RepositoryResponse(found.outcome, _headers(digest), 304)
            return RepositoryResponse(found.outcome, (_OCTETS, *_headers(digest)), length=found.size)
        blob = await self._blobs.open(asked.source, digest)
        try:
            return await self._opened(blob, digest, _ranges(asked, digest, blob.size))
        except BaseException:
            blob.close()
            raise

    async def _opened(
        self, blob: BlobReader, digest: Digest, ranges: tuple[ByteRange, ...] | None
    ) -> RepositoryResponse:
        headers = _headers(digest)
        match ranges:
            case None:
                return self._reply(blob, 200, [ByteRange(0, blob.size)], _OCTETS, *headers)
            case ():
                reply = _unsatisfiable(blob)
                blob.close()
                return reply
            case (wanted,):
                content_range = (b"Content-Range", wanted.content_range(blob.size).encode("ascii"))
                return await self._one(blob, wanted, _OCTETS, content_range, *headers)
        boundary = self._make_boundary()
        parts = multipart(ranges, blob.size, OCTET_STREAM, boundary)
        several = (b"Content-Type", f"multipart/byteranges; boundary={boundary}".encode("ascii"))
        return self._reply(blob, 206, parts, several, *headers)

    async def _one(self, blob: BlobReader, wanted: ByteRange, *headers: Header) -> RepositoryResponse:
        """One range; where the download is far from it, straight from the upstream."""
        if blob.readable < wanted.stop:
            passed = await blob.pass_through(wanted.first, wanted.stop)
            if passed is not None:
                blob.close()
                flow = RangeStream(passed, wanted, self._sending)
                return RepositoryResponse(CacheResult.partial(), headers, 206, length=len(wanted), flow=flow)
        return self._reply(blob, 206, [wanted], *headers)

    def _reply(
        self, blob: BlobReader, status: int, parts: list[bytes | ByteRange], *headers: Header
    ) -> RepositoryResponse:
        outcome, body = blob.outcome, blob.body
        if body is not None:
            blob.close()
            taken = [part if isinstance(part, bytes) else body[part.first : part.stop] for part in parts]
            return RepositoryResponse.of_bytes(outcome, b"".join(taken), *headers, status=status)
        length = sum(map(len, parts))
        return RepositoryResponse(
            outcome, headers, status, length=length, flow=BlobStream(blob, parts, self._sending)
        )


@attrs.frozen
class BlobChange:
    """Deletes blobs; they are pushed elsewhere (uploads.py)."""

    methods: ClassVar[tuple[bytes, ...]] = (b"GET", b"HEAD", b"DELETE")

    _deleter: HostedDeletion

    async def change(self, asked: RegistryRequest) -> Response:
        """Delete."""
        route = asked.target.route
        assert isinstance(route, BlobRoute)  # noqa: S101 - the root dispatches by type
        if asked.request.method != b"DELETE":
            return unsupported(self.methods)
        await self._deleter.delete_blob(route.repository, route.digest)
        return Response.whole(202, b"", API_VERSION)


def _headers(digest: Digest) -> tuple[Header, ...]:
    return (
        (b"Docker-Content-Digest", str(digest).encode("ascii")),
        (b"ETag", etag(digest).encode("ascii")),
        (b"Accept-Ranges", b"bytes"),
        IMMUTABLE,
    )


def _ranges(asked: RegistryRequest, digest: Digest, size: int) -> tuple[ByteRange, ...] | None:
    header = asked.header(b"Range")
    if header is None or not is_unchanged(asked.header(b"If-Range"), digest):
        return None
    return select(header, size)


def _unsatisfiable(blob: BlobReader) -> RepositoryResponse:
    answer = Response.of_error(RangeInvalid("no byte of this blob is in the range"))
    content_range = (b"Content-Range", b"bytes */%d" % blob.size)
    return RepositoryResponse.of_bytes(blob.outcome, answer.body, *answer.headers, content_range, status=416)
