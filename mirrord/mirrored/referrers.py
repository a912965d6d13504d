"""Referrers of mirrored manifests, such as signatures: the upstream's own list, passed through and cached."""

from collections.abc import Mapping

import attrs

from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.ports import Upstream
from mirrord.mirrored.timeouts import REQUEST_SECONDS
from mirrord.oci.cache_status import with_cache_status
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryKey
from mirrord.repository import ReferrersResult

ReferrersKey = tuple[RepositoryKey, Digest, str | None]
"""The repository, the subject and the artifact type of a list."""

ReferrersList = tuple[bytes, bool]
"""The index, and whether the upstream has applied the artifact type."""


@attrs.define(eq=False)
class MirroredReferrers:
    """Lists the referrers of manifests as their upstreams know them."""

    _upstreams: Mapping[str, Upstream]
    _lists: ListCache[ReferrersKey, ReferrersList]

    @with_cache_status()
    async def list(self, key: RepositoryKey, subject: Digest, artifact_type: str | None) -> ReferrersResult:
        """Return the image index of what refers to `subject`.

        Raises:
            ManifestUnknown: The upstream has no referrers API; clients then look for the fallback tag.
            UpstreamError: It failed, and nothing is cached. This is never a 404, which means "no signatures".
        """
        (body, is_filtered), cache = await self._lists.get(
            key, (key, subject, artifact_type), lambda: self._fetch(key, subject, artifact_type)
        )
        return ReferrersResult(body, is_filtered, cache)

    async def _fetch(self, key: RepositoryKey, subject: Digest, artifact_type: str | None) -> ReferrersList:
        upstream = self._upstreams[key.upstream]
        return await upstream.list_referrers(
            key.repository, subject, artifact_type, budget_seconds=REQUEST_SECONDS
        )
