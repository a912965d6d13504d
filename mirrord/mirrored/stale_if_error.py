"""Stale if error: cached content stands in for an upstream that fails (RFC 5861, section 4).

A client whose content is cached does not wait for a silent upstream: it gets the cached content, while the
request that was not waited for continues (manifest_resolver.py, lists.py) and counts if a response
arrives. The upstream is then *degraded* for a few seconds: cached content is served without a request, and
content that is not cached is still requested, unlike with an open circuit.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.mirrored.ports import Upstream
from mirrord.mirrored.timeouts import CACHED_SECONDS, UNCACHED_SECONDS, with_timeout
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import CircuitOpen, UpstreamError, UpstreamTimeout
from mirrord.oci.names import RepositoryKey

T = TypeVar("T")


@attrs.frozen
class StaleFallback(Generic[T]):
    """A cached result to return if the upstream fails; it has been stale for `-ttl_seconds`."""

    age_seconds: int
    ttl_seconds: int
    result: Callable[[CacheResult], T]


@attrs.frozen(eq=False)
class StaleIfError:
    """Requests from an upstream for as long as the client can wait."""

    _upstreams: Mapping[str, Upstream]
    _clock: IReactorTime
    _log = Logger()

    def is_degraded(self, key: RepositoryKey, *, of_manifests: bool = False) -> bool:
        """Return whether the upstream failed recently, so that cached content is served without a request."""
        return self._upstreams[key.upstream].is_degraded(of_manifests=of_manifests)

    async def request(
        self,
        key: RepositoryKey,
        fallback: StaleFallback[T] | None,
        request: Callable[[], Coroutine[Any, Any, T]],
        *,
        abandon: Callable[[], None] = lambda: None,
        of_manifests: bool = False,
    ) -> T:
        """Return the result of `request`, or of `fallback` if the upstream fails, is silent, or is degraded.

        `abandon` is called when the request is no longer waited for.

        Raises:
            RegistryError: The upstream refused, which a fallback must not hide; or there is no fallback.
        """
        if fallback is None:
            return await self.wait(request())
        if self.is_degraded(key, of_manifests=of_manifests):
            return fallback.result(CacheResult.stale_hit(fallback.ttl_seconds, fallback.age_seconds))
        try:
            return await with_timeout(self._clock, CACHED_SECONDS, request())
        except CircuitOpen:
            return fallback.result(CacheResult.stale_hit(fallback.ttl_seconds, fallback.age_seconds))
        except UpstreamError as error:
            reason, status = error.message, error.upstream_status
        except TimeoutError:
            self._upstreams[key.upstream].mark_degraded()
            abandon()
            reason, status = "no response in time", None
        # The upstream logs its outage once, and the log line of the pull shows that it was stale.
        self._log.debug(
            "serving {source} stale: {reason}",
            source=str(key),
            reason=reason,
            upstream=key.upstream,
            repository=str(key.repository),
        )
        return fallback.result(CacheResult.stale(status, fallback.age_seconds))

    async def wait(self, request: Coroutine[Any, Any, T]) -> T:
        """Return the result of `request` before the client gives up.

        Raises:
            UpstreamTimeout: There is none in time.
        """
        try:
            return await with_timeout(self._clock, UNCACHED_SECONDS, request)
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not respond in time") from None
