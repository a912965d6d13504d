"""Tag lists of upstreams, cached for a minute and served stale while the upstream fails."""

from collections.abc import Mapping

import attrs

from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.ports import Upstream
from mirrord.mirrored.timeouts import REQUEST_SECONDS
from mirrord.oci.cache_status import CacheResult, with_cache_status
from mirrord.oci.names import RepositoryKey


@attrs.define(eq=False)
class MirroredTags:
    """Lists the tags of repositories as their upstreams have them."""

    _upstreams: Mapping[str, Upstream]
    _lists: ListCache[RepositoryKey, tuple[str, ...]]

    @with_cache_status()
    async def list(self, key: RepositoryKey) -> tuple[tuple[str, ...], CacheResult]:
        """Return all tags of a repository, sorted.

        Raises:
            NameUnknown, Denied: The upstream refuses it.
            UpstreamError: The upstream failed, and no list is cached.
        """
        return await self._lists.get(key, key, lambda: self._fetch(key))

    async def _fetch(self, key: RepositoryKey) -> tuple[str, ...]:
        upstream = self._upstreams[key.upstream]
        return tuple(await upstream.list_tags(key.repository, budget_seconds=REQUEST_SECONDS))
