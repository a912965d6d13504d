"""BlobRequests: request blobs from a registry, wherever it stores them.

Most registries store none themselves: they redirect to a store, by a URL that is signed for some
minutes. A store's error is about that URL: expired, forbidden, not replicated yet. Only the registry's
own response decides whether the blob exists and may be read.
"""

import re
from typing import Self

import attrs
from twisted.web.http_headers import Headers

from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, Denied, RegistryError, UpstreamRefused
from mirrord.oci.names import RepositoryName
from mirrord.upstream.api import RegistryAPI, UpstreamRequest, refusal
from mirrord.upstream.body import UpstreamBlobBody
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.retry import Deadline
from mirrord.upstream.transport import HeadersFor, UpstreamResponse

_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""How stores respond to a signed URL that has expired."""

_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/(?:([0-9]{1,18})|\*)", re.ASCII)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,512}"', re.ASCII)


@attrs.frozen
class ContentRange:
    """Bytes `first` to before `stop` of `size` in all (RFC 9110, section 14.4); both ends None in a 416."""

    first: int | None
    stop: int | None
    size: int | None

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Parse a Content-Range; None if it is invalid."""
        match = _CONTENT_RANGE.fullmatch((text or "").strip().lower())
        if match is None:
            return None
        first, last, size = (None if part is None else int(part) for part in match.groups())
        stop = None if last is None else last + 1
        if first is not None and stop is not None and not first < stop <= (stop if size is None else size):
            return None
        return cls(first, stop, size)


@attrs.frozen
class Validator:
    """A strong ETag and the only origin that it is valid for. As text: `https://host "etag"`."""

    origin: str
    etag: str

    @classmethod
    def of(cls, origin: WebOrigin, etag: str | None) -> Self | None:
        """Return the validator of a response; None without a strong ETag."""
        return cls(str(origin), etag) if etag is not None and _STRONG_ETAG.fullmatch(etag) else None

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Parse the text of a validator; None if it is empty or invalid."""
        origin, _, etag = (text or "").partition(" ")
        return cls(origin, etag) if origin and _STRONG_ETAG.fullmatch(etag) else None

    def __str__(self) -> str:
        return f"{self.origin} {self.etag}"


@attrs.frozen
class BlobRequests:
    """Requests blobs from one upstream."""

    _api: RegistryAPI

    async def head(self, repository: RepositoryName, digest: Digest, deadline: Deadline) -> int | None:
        """Return the blob's size, None if the upstream does not report it.

        By HEAD, and where that is rejected (by public.ecr.aws with a token, by some stores always), by a
        GET of its first byte.
        """
        try:
            response = await self._api.send(self._request("HEAD", repository, digest), deadline)
            if response.status == 200:
                return response.length
            if response.status == 404 and not response.was_redirected:
                raise BlobUnknown("the upstream has no such blob")
        except (Denied, UpstreamRefused):
            pass
        return await self._size_by_range(repository, digest, deadline)

    async def fetch(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        offset: int,
        stop: int | None,
        validator: str | None,
        deadline: Deadline,
    ) -> UpstreamBlobBody:
        """Return the bytes from `offset` to before `stop`, or all if the upstream ignores the range."""
        request = self._request("GET", repository, digest, _range_headers(offset, stop, validator))
        response = await self._get(request, deadline)
        if response.status == 200:
            return self._open(response, 0, response.length)
        content = ContentRange.parse(response.header("Content-Range"))
        if response.status == 206 and content is not None and content.first == offset:
            return self._open(response, offset, content.size)
        await self._api.transport.discard(response, deadline)
        if response.status == 206:
            raise UpstreamRefused("the upstream sent a different range than requested", upstream_status=206)
        raise _error_of(response)

    async def _size_by_range(
        self, repository: RepositoryName, digest: Digest, deadline: Deadline
    ) -> int | None:
        request = self._request("GET", repository, digest, _range_headers(0, 1, None))
        response = await self._get(request, deadline)
        content = ContentRange.parse(response.header("Content-Range"))
        if response.status == 200:
            self._api.transport.bodies.open(response.raw).abort()
            return response.length
        await self._api.transport.discard(response, deadline)
        if response.status == 206 or (response.status == 416 and content is not None and content.size == 0):
            return None if content is None else content.size
        raise _error_of(response)

    async def _get(self, request: UpstreamRequest, deadline: Deadline) -> UpstreamResponse:
        """Send a GET, and again if a store rejected the URL that the registry redirected to."""
        response = await self._api.send(request, deadline)
        if response.was_redirected and response.status in _EXPIRED:
            await self._api.transport.discard(response, deadline)
            response = await self._api.send(request, deadline)
        return response

    def _open(self, response: UpstreamResponse, offset: int, size: int | None) -> UpstreamBlobBody:
        validator = Validator.of(response.origin, response.header("ETag"))
        return self._api.transport.bodies.open(
            response.raw,
            offset=offset,
            size=size,
            validator=None if validator is None else str(validator),
            progressed=self._api.circuit.progressed,
        )

    def _request(
        self,
        method: str,
        repository: RepositoryName,
        digest: Digest,
        headers_for: HeadersFor = lambda _: Headers(),
    ) -> UpstreamRequest:
        url = f"{self._api.home}/v2/{repository}/blobs/{digest}"
        return UpstreamRequest(method, url, kind="blob", repository=repository, headers_for=headers_for)


def range_header(offset: int, stop: int | None) -> str | None:
    """Return the Range header for the bytes from `offset` to before `stop`; None for all of them."""
    if not offset and stop is None:
        return None
    return f"bytes={offset}-{'' if stop is None else stop - 1}"


def _range_headers(offset: int, stop: int | None, validator: str | None) -> HeadersFor:
    """Return the headers that request a range; the validator is sent only to the origin it is from."""
    range_, known = range_header(offset, stop), Validator.parse(validator)

    def headers_for(origin: WebOrigin) -> Headers:
        headers = Headers()
        if range_ is not None:
            headers.setRawHeaders("Range", [range_])
            if known is not None and known.origin == str(origin):
                headers.setRawHeaders("If-Range", [known.etag])
        return headers

    return headers_for


def _error_of(response: UpstreamResponse) -> RegistryError:
    """Return the error for a response without the blob; a store's is about its URL only."""
    status = response.status
    if response.was_redirected:
        return UpstreamRefused(f"the upstream responded with {status} for a blob", upstream_status=status)
    return refusal(status, "a blob", BlobUnknown("the upstream has no such blob"))
