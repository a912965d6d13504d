"""Referrers: `/v2/<repository>/referrers/<digest>`, as the upstream says; of hosted ones, as they say."""

from typing import ClassVar
from urllib.parse import urlencode

import attrs

from mirrord.api.ports import Referrers
from mirrord.api.resource import RegistryRequest, RepositoryResponse
from mirrord.hosted.referrers import HostedReferrers
from mirrord.http.response import Header
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.manifests import OCI_INDEX
from mirrord.oci.routes import ReferrersRoute

_INDEX: Header = (b"Content-Type", OCI_INDEX.encode("ascii"))
_FILTERED: Header = (b"OCI-Filters-Applied", b"artifactType")


@attrs.frozen
class ReferrersResource:
    """Answers with an image index of what refers to a digest."""

    kind: ClassVar[str] = "referrers"

    _referrers: Referrers

    async def reply(self, asked: RegistryRequest) -> RepositoryResponse:
        """The index; its Content-Type is compared letter by letter by clients."""
        route = asked.target.route
        assert isinstance(route, ReferrersRoute)  # noqa: S101 - the root dispatches by type
        pulled = await self._referrers.list(asked.source, route.digest, route.artifact_type)
        headers = (_INDEX, _FILTERED) if pulled.is_filtered else (_INDEX,)
        return RepositoryResponse.of_bytes(pulled.outcome, pulled.body, *headers)


@attrs.frozen
class HostedReferrersResource:
    """Answers with what was pushed about a digest, page by page."""

    kind: ClassVar[str] = "referrers"

    _referrers: HostedReferrers

    async def reply(self, asked: RegistryRequest) -> RepositoryResponse:
        """The index; empty where nothing refers to the digest, or nobody knows it."""
        route = asked.target.route
        assert isinstance(route, ReferrersRoute)  # noqa: S101 - the root dispatches by type
        kind = route.artifact_type
        page = await self._referrers.page(route.repository, route.digest, kind, route.last)
        headers: tuple[Header, ...] = (_INDEX,) if kind is None else (_INDEX, _FILTERED)
        if page.next_after is not None:
            query = {"last": page.next_after} | ({} if kind is None else {"artifactType": kind})
            link = f'</v2/{route.repository}/referrers/{route.digest}?{urlencode(query)}>; rel="next"'
            headers += ((b"Link", link.encode("ascii")),)
        return RepositoryResponse.of_bytes(CacheResult.hit(), page.body, *headers)
