"""Pulling referrers: what signs or describes a manifest, as its upstream knows it, passed through."""

from collections.abc import Mapping

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.names import Source
from mirrord.pull.answers import PulledReferrers
from mirrord.pull.lists import Lists
from mirrord.pull.outcome import explained
from mirrord.pull.patience import ASK_SECONDS
from mirrord.pull.ports import Upstream

Asked = tuple[Source, Digest, str | None]
Listed = tuple[bytes, bool]


@attrs.define(eq=False)
class ReferrerLister:
    """Answers lists of referrers."""

    _upstreams: Mapping[str, Upstream]
    _lists: Lists[Asked, Listed]

    @explained
    async def list(self, source: Source, digest: Digest, artifact_type: str | None) -> PulledReferrers:
        """The image index of what refers to `digest`.

        Raises:
            ManifestUnknown: The upstream has no referrers API; clients then look for the fallback tag.
            UpstreamError: It failed, and nothing is remembered: never a 404, which reads "no signatures".
        """
        asked = (source, digest, artifact_type)
        listed, outcome = await self._lists.get(source, asked, lambda: self._ask(*asked))
        return PulledReferrers(*listed, outcome)

    async def _ask(self, source: Source, digest: Digest, artifact_type: str | None) -> Listed:
        upstream = self._upstreams[source.upstream]
        return await upstream.list_referrers(
            source.repository, digest, artifact_type, budget_seconds=ASK_SECONDS
        )
