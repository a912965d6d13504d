"""Stale if error: what is held stands in for an upstream that fails (RFC 5861, section 4).

The client of something held is not made to wait for an upstream that is silent: it gets what is
held, and the question that was not waited for goes on (naming.py, lists.py) and counts if it is
answered. The upstream is then *degraded* for a few seconds: cached content is served without a
request, and whatever is not cached is still requested, unlike with an open circuit.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.mirrored.ports import Upstream
from mirrord.mirrored.timeouts import HELD_SECONDS, UNHELD_SECONDS, with_timeout
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import CircuitOpen, UpstreamError, UpstreamTimeout
from mirrord.oci.names import RepositoryKey

T = TypeVar("T")


@attrs.frozen
class StaleFallback(Generic[T]):
    """Something to be answered if the upstream fails: how old it is, for how long stale, and the answer."""

    age_seconds: int
    ttl_seconds: int
    answer: Callable[[CacheResult], T]


@attrs.frozen(eq=False)
class StaleIfError:
    """Asks an upstream, as long as that makes sense for whoever waits."""

    _upstreams: Mapping[str, Upstream]
    _clock: IReactorTime
    _log = Logger()

    def is_failing(self, source: RepositoryKey, *, of_manifests: bool = False) -> bool:
        """Whether the upstream of `source` failed a moment ago, so that what is held is answered unasked."""
        return self._upstreams[source.upstream].is_degraded(of_manifests=of_manifests)

    async def ask(
        self,
        source: RepositoryKey,
        held: StaleFallback[T] | None,
        ask: Callable[[], Coroutine[Any, Any, T]],
        *,
        given_up: Callable[[], None] = lambda: None,
        of_manifests: bool = False,
    ) -> T:
        """What asking gives; or what is held, if the upstream fails, is silent, or failed a moment ago.

        `given_up` is called when what is asked is no longer waited for.

        Raises:
            RegistryError: The upstream says no, which nothing held may hide; or nothing is held.
        """
        if held is None:
            return await self.patiently(ask())
        if self.is_failing(source, of_manifests=of_manifests):
            return held.answer(CacheResult.stale_unasked(held.ttl_seconds, held.age_seconds))
        try:
            return await with_timeout(self._clock, HELD_SECONDS, ask())
        except CircuitOpen:
            return held.answer(CacheResult.stale_unasked(held.ttl_seconds, held.age_seconds))
        except UpstreamError as error:
            reason, status = error.message, error.upstream_status
        except TimeoutError:
            self._upstreams[source.upstream].mark_degraded()
            given_up()
            reason, status = "it did not answer in time", None
        # Its outage the upstream tells once, and that this answer is stale is told with the pull.
        self._log.debug(
            "what is held of {source} is served stale, its upstream failed: {reason}",
            source=str(source),
            reason=reason,
            upstream=source.upstream,
            repository=str(source.repository),
        )
        return held.answer(CacheResult.stale(status, held.age_seconds))

    async def patiently(self, ask: Coroutine[Any, Any, T]) -> T:
        """What asking gives, before clients give up on us.

        Raises:
            UpstreamTimeout: It did not come in time.
        """
        try:
            return await with_timeout(self._clock, UNHELD_SECONDS, ask)
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not answer in time") from None
