"""Pulling referrers: what signs or describes a manifest, as its upstream knows it, passed through."""

from collections.abc import Mapping

import attrs

from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.ports import Upstream
from mirrord.mirrored.timeouts import ASK_SECONDS
from mirrord.oci.cache_status import with_cache_status
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryKey
from mirrord.repository import ReferrersResult

Asked = tuple[RepositoryKey, Digest, str | None]
Listed = tuple[bytes, bool]


@attrs.define(eq=False)
class MirroredReferrers:
    """Answers lists of referrers."""

    _upstreams: Mapping[str, Upstream]
    _lists: ListCache[Asked, Listed]

    @with_cache_status
    async def list(self, source: RepositoryKey, digest: Digest, artifact_type: str | None) -> ReferrersResult:
        """The image index of what refers to `digest`.

        Raises:
            ManifestUnknown: The upstream has no referrers API; clients then look for the fallback tag.
            UpstreamError: It failed, and nothing is remembered: never a 404, which reads "no signatures".
        """
        asked = (source, digest, artifact_type)
        listed, outcome = await self._lists.get(source, asked, lambda: self._ask(*asked))
        return ReferrersResult(*listed, outcome)

    async def _ask(self, source: RepositoryKey, digest: Digest, artifact_type: str | None) -> Listed:
        upstream = self._upstreams[source.upstream]
        return await upstream.list_referrers(
            source.repository, digest, artifact_type, budget_seconds=ASK_SECONDS
        )
