"""Lists that only an upstream has: tags, and referrers such as signatures.

They are cached for a minute, and for longer while the upstream fails.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

import attrs

from mirrord.flight.single import SingleFlight
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.ports import Upstream
from mirrord.mirrored.stale_if_error import StaleFallback, StaleIfError
from mirrord.mirrored.timeouts import REQUEST_SECONDS
from mirrord.oci.cache_status import CacheResult, with_cache_status
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError, UpstreamError
from mirrord.oci.names import RepositoryKey
from mirrord.repository import ReferrersResult

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LIST_TTL_SECONDS = 60.0

ReferrersKey = tuple[RepositoryKey, Digest, str | None]
"""The repository, the subject and the artifact type of a list."""

ReferrersList = tuple[bytes, bool]
"""The index, and whether the upstream has applied the artifact type."""


@attrs.define(eq=False)
class ListCache(Generic[K, V]):
    """Lists by key; each is requested once at a time."""

    _stale_if_error: StaleIfError
    _stale_if_error_seconds: float
    _cached: AgedCache[K, V]
    _fetching: SingleFlight[K, V] = attrs.field(factory=SingleFlight, init=False)

    async def get(
        self, repository: RepositoryKey, key: K, fetch: Callable[[], Awaitable[V]]
    ) -> tuple[V, CacheResult]:
        """Return the list of `key` in a repository: cached, or the result of `fetch`.

        Raises:
            RegistryError: The upstream refused.
            UpstreamError: The upstream failed, and no list is cached.
        """
        cached = self._cached.get(key)
        fallback = None
        if cached is not None:
            value, age = cached.value, int(cached.age_seconds)
            if age < LIST_TTL_SECONDS:
                return value, CacheResult.hit(int(LIST_TTL_SECONDS) - age, age)
            if age < LIST_TTL_SECONDS + self._stale_if_error_seconds:
                fallback = StaleFallback(age, int(LIST_TTL_SECONDS) - age, lambda result: (value, result))
        return await self._stale_if_error.request(
            repository,
            fallback,
            lambda: self._fetch(key, fetch),
            abandon=lambda: self._fetching.forget(key),
        )

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[V]]) -> tuple[V, CacheResult]:
        has_joined = self._fetching.is_running(key)
        value = await self._fetching.run(key, lambda: self._fetch_and_cache(key, fetch))
        return value, CacheResult.collapsed() if has_joined else CacheResult.forwarded(200)

    async def _fetch_and_cache(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await fetch()
        except UpstreamError:
            raise
        except RegistryError:
            self._cached.delete(key)
            raise
        self._cached.put(key, value)
        return value


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
