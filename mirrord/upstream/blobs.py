"""Blobs: asking a registry for their bytes, wherever it keeps them.

Most registries keep none themselves: they redirect to a store, by a URL that is signed for some
minutes. What the store says of such a URL is about the URL: expired, forbidden, not there yet. Only
the registry's own word decides whether there is such a blob and whether we may have it.
"""

from collections.abc import Callable

import attrs
from twisted.web.http_headers import Headers

from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, Denied, RegistryError, UpstreamRefused
from mirrord.oci.names import RepositoryName
from mirrord.upstream.api import RegistryAPI, UpstreamRequest
from mirrord.upstream.body import UpstreamBlobBody
from mirrord.upstream.deadline import Deadline
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.ranges import ContentRange, Validator, range_header
from mirrord.upstream.transport import UpstreamResponse

_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What stores answer to a signed URL that is not good any more."""


@attrs.frozen
class BlobRequests:
    """Asks for blobs."""

    _api: RegistryAPI

    async def head(self, repository: RepositoryName, digest: Digest, deadline: Deadline) -> int | None:
        """The blob's size, None where it is not told.

        By HEAD, and where that is refused (public.ecr.aws to those with a token, some stores
        always), by a GET of its first byte.
        """
        try:
            answer = await self._api.ask(self._request("HEAD", repository, digest), deadline)
            if answer.status == 200:
                return answer.length
            if answer.status == 404 and not answer.was_redirected:
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
        """The bytes from `offset` to before `stop`, or what the upstream sends instead."""
        request = self._request("GET", repository, digest, _range_for(offset, stop, validator))
        answer = await self._ask(request, deadline)
        if answer.status == 200:
            return self._open(answer, 0, answer.length)
        content = ContentRange.parse(answer.header("Content-Range"))
        if answer.status == 206 and content is not None and content.first == offset:
            return self._open(answer, offset, content.size)
        await self._api.discard(answer, deadline)
        if answer.status == 206:
            raise UpstreamRefused("the upstream sent another range than asked for", upstream_status=206)
        raise _refusal(answer)

    async def _size_by_range(
        self, repository: RepositoryName, digest: Digest, deadline: Deadline
    ) -> int | None:
        request = self._request("GET", repository, digest, _range_for(0, 1, None))
        answer = await self._ask(request, deadline)
        content = ContentRange.parse(answer.header("Content-Range"))
        if answer.status == 200:
            self._api.wire.bodies.open(answer.response).abort()
            return answer.length
        await self._api.discard(answer, deadline)
        if answer.status == 206 or (answer.status == 416 and content is not None and content.size == 0):
            return None if content is None else content.size
        raise _refusal(answer)

    async def _ask(self, request: UpstreamRequest, deadline: Deadline) -> UpstreamResponse:
        """The answer to a GET; asked twice where a store did not take the URL that the registry gave."""
        answer = await self._api.ask(request, deadline)
        if answer.was_redirected and answer.status in _EXPIRED:
            await self._api.discard(answer, deadline)
            answer = await self._api.ask(request, deadline)
        return answer

    def _open(self, answer: UpstreamResponse, offset: int, size: int | None) -> UpstreamBlobBody:
        validator = Validator.of(answer.origin, answer.header("ETag"))
        return self._api.wire.bodies.open(
            answer.response,
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
        more: Callable[[WebOrigin], Headers] = lambda _: Headers(),
    ) -> UpstreamRequest:
        return UpstreamRequest(
            method, f"{self._api.home}/v2/{repository}/blobs/{digest}", "blob", repository, more
        )


def _range_for(offset: int, stop: int | None, validator: str | None) -> Callable[[WebOrigin], Headers]:
    """The headers that ask for a range; the validator goes only where it came from."""
    asked, known = range_header(offset, stop), Validator.parse(validator)

    def headers_for(origin: WebOrigin) -> Headers:
        headers = Headers()
        if asked is not None:
            headers.setRawHeaders("Range", [asked])
            if known is not None and known.origin == str(origin):
                headers.setRawHeaders("If-Range", [known.etag])
        return headers

    return headers_for


def _refusal(answer: UpstreamResponse) -> RegistryError:
    """What an answer without the blob means."""
    status = answer.status
    if not answer.was_redirected and status in {404, 410}:
        return BlobUnknown("the upstream has no such blob")
    if not answer.was_redirected and status in {401, 403}:
        return Denied("the upstream does not let us read this")
    return UpstreamRefused(f"the upstream answered {status} for a blob", upstream_status=status)
