"""Lists that only an upstream has: remembered for a minute, and for longer while it fails."""

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
    """Lists by what they are asked for, each asked for once at a time."""

    _stale_if_error: StaleIfError
    _stale_if_error_seconds: float
    _known: AgedCache[K, V]
    _listing: SingleFlight[K, V] = attrs.field(factory=SingleFlight, init=False)

    async def get(
        self, source: RepositoryKey, key: K, ask: Callable[[], Awaitable[V]]
    ) -> tuple[V, CacheResult]:
        """The list of `key` at `source`: remembered, or what `ask` gives.

        Raises:
            RegistryError: The upstream says no.
            UpstreamError: Asking failed, and no list is remembered.
        """
        memory = self._known.get(key)
        held = None
        if memory is not None:
            age = int(memory.age_seconds)
            if age < LIST_TTL_SECONDS:
                return memory.value, CacheResult.hit(int(LIST_TTL_SECONDS) - age, age)
            if age < LIST_TTL_SECONDS + self._stale_if_error_seconds:
                listed = memory.value
                held = StaleFallback(age, int(LIST_TTL_SECONDS) - age, lambda outcome: (listed, outcome))
        return await self._stale_if_error.ask(
            source, held, lambda: self._ask(key, ask), given_up=lambda: self._listing.forget(key)
        )

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> tuple[V, CacheResult]:
        has_joined = self._listing.is_running(key)
        listed = await self._listing.run(key, lambda: self._note(key, ask))
        return listed, CacheResult.collapsed() if has_joined else CacheResult.asked(200)

    async def _note(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        try:
            listed = await ask()
        except UpstreamError:
            raise
        except RegistryError:
            self._known.delete(key)
            raise
        self._known.put(key, listed)
        return listed
