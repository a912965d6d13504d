"""Cache status: how a response came about (RFC 9211), for the Cache-Status header, metrics and logs."""

from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

import attrs

from mirrord.oci.errors import RegistryError, Unavailable, UpstreamError

P = ParamSpec("P")
T = TypeVar("T")


class CacheStatus(StrEnum):
    """The kinds of results; the values are labels of metrics and fields of logs."""

    HIT = "hit"
    STORED = "stored"
    COLLAPSED = "collapsed"
    FORWARDED = "asked"
    PARTIAL = "partial"
    REVALIDATED = "revalidated"
    CHANGED = "changed"
    STALE = "stale"


@attrs.frozen
class CacheResult:
    """How a response came about; `str()` of it is the value of the Cache-Status header (RFC 9211).

    `ttl_seconds` is how long the response stays fresh, None if it is immutable or was just requested from the
    upstream. `age_seconds` is set for tags and lists: the time since the last request to the upstream.
    """

    status: CacheStatus
    parameters: str
    ttl_seconds: int | None = None
    age_seconds: int | None = None

    @classmethod
    def hit(cls, ttl_seconds: int | None = None, age_seconds: int | None = None) -> Self:
        """Return the result of a response from the cache, without a request to the upstream."""
        parameters = "hit" if ttl_seconds is None else f"hit; ttl={ttl_seconds}"
        return cls(CacheStatus.HIT, parameters, ttl_seconds, age_seconds)

    @classmethod
    def stored(cls) -> Self:
        """Return the result of a miss: fetched for this request, and cached."""
        return cls(CacheStatus.STORED, "fwd=uri-miss; stored")

    @classmethod
    def collapsed(cls) -> Self:
        """Return the result of a miss that joined a running fetch."""
        return cls(CacheStatus.COLLAPSED, "fwd=uri-miss; collapsed")

    @classmethod
    def forwarded(cls, upstream_status: int | None) -> Self:
        """Return the result of a miss that stored nothing; `upstream_status` is None if no response came."""
        status = "" if upstream_status is None else f"; fwd-status={upstream_status}"
        return cls(CacheStatus.FORWARDED, f"fwd=uri-miss{status}")

    @classmethod
    def partial(cls) -> Self:
        """Return the result of a far range that was passed through from the upstream."""
        return cls(CacheStatus.PARTIAL, "fwd=partial")

    @classmethod
    def revalidated(cls) -> Self:
        """Return the result of an expired entry that the upstream confirmed."""
        return cls(CacheStatus.REVALIDATED, "fwd=stale; fwd-status=200", age_seconds=0)

    @classmethod
    def changed(cls) -> Self:
        """Return the result of an expired entry that was replaced by a new one from the upstream."""
        return cls(CacheStatus.CHANGED, "fwd=stale; fwd-status=200; stored", age_seconds=0)

    @classmethod
    def stale(cls, upstream_status: int | None, age_seconds: int) -> Self:
        """Return the result of an expired entry that was served because the upstream failed."""
        status = "" if upstream_status is None else f"; fwd-status={upstream_status}"
        return cls(CacheStatus.STALE, f"fwd=stale{status}; detail=stale-if-error", age_seconds=age_seconds)

    @classmethod
    def stale_hit(cls, ttl_seconds: int, age_seconds: int) -> Self:
        """Return the result of an expired entry served without a request: the upstream is failing."""
        parameters = f"hit; ttl={ttl_seconds}; detail=stale-if-error"
        return cls(CacheStatus.STALE, parameters, ttl_seconds, age_seconds)

    @classmethod
    def of_error(cls, error: RegistryError) -> Self:
        """Return the result of a request that the upstream, or our own disk, answered with `error`."""
        match error:
            case UpstreamError():
                return cls.forwarded(error.upstream_status)
            case Unavailable():
                return cls.forwarded(None)
        return cls.forwarded(error.status)

    def __str__(self) -> str:
        return f"mirrord; {self.parameters}"


def with_cache_status(
    result_of: Callable[[RegistryError], CacheResult] = CacheResult.of_error,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Decorate a use case so that the errors it raises carry a Cache-Status, as its results do."""

    def decorate(use_case: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(use_case)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await use_case(*args, **kwargs)
            except RegistryError as error:
                if error.cache_status is None:
                    error.cache_status = str(result_of(error))
                raise

        return call

    return decorate
