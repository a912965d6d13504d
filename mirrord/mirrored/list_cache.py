"""ListCache: lists that only an upstream has, cached for a minute, and for longer while it fails."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import attrs

from mirrord.flight.single import SingleFlight
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.stale_if_error import StaleFallback, StaleIfError
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import RegistryError, UpstreamError
from mirrord.oci.names import RepositoryKey

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LIST_TTL_SECONDS = 60.0


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
