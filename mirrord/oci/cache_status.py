"""How an answer came about: the words of Cache-Status (RFC 9211), and of the counters."""

from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

import attrs

from mirrord.oci.errors import RegistryError, Unavailable, UpstreamError

P = ParamSpec("P")
T = TypeVar("T")


class CacheStatus(StrEnum):
    """The ways an answer can take."""

    HIT = "hit"
    STORED = "stored"
    COLLAPSED = "collapsed"
    ASKED = "asked"
    PARTIAL = "partial"
    REVALIDATED = "revalidated"
    CHANGED = "changed"
    STALE = "stale"


@attrs.frozen
class CacheResult:
    """How an answer came about; `str()` of it is the Cache-Status header (contract.md).

    `ttl_seconds` is for how long it stays fresh, None for what is immutable or was asked for just
    now; `age_seconds` is for tags: how long ago the upstream was last asked.
    """

    way: CacheStatus
    parameters: str
    ttl_seconds: int | None = None
    age_seconds: int | None = None

    @classmethod
    def hit(cls, ttl_seconds: int | None = None, age_seconds: int | None = None) -> Self:
        """Answered from what is held; nobody was asked."""
        parameters = "hit" if ttl_seconds is None else f"hit; ttl={ttl_seconds}"
        return cls(CacheStatus.HIT, parameters, ttl_seconds, age_seconds)

    @classmethod
    def stored(cls) -> Self:
        """Fetched for this request, and kept."""
        return cls(CacheStatus.STORED, "fwd=uri-miss; stored")

    @classmethod
    def collapsed(cls) -> Self:
        """Joined what was already being fetched."""
        return cls(CacheStatus.COLLAPSED, "fwd=uri-miss; collapsed")

    @classmethod
    def asked(cls, upstream_status: int | None) -> Self:
        """The upstream was asked, and nothing is kept; None where it gave no answer."""
        status = "" if upstream_status is None else f"; fwd-status={upstream_status}"
        return cls(CacheStatus.ASKED, f"fwd=uri-miss{status}")

    @classmethod
    def partial(cls) -> Self:
        """A far range, passed through."""
        return cls(CacheStatus.PARTIAL, "fwd=partial")

    @classmethod
    def revalidated(cls) -> Self:
        """Held and too old; the upstream was asked what it is now."""
        return cls(CacheStatus.REVALIDATED, "fwd=stale; fwd-status=200", age_seconds=0)

    @classmethod
    def changed(cls) -> Self:
        """Held and too old; the upstream has another one, which is now kept."""
        return cls(CacheStatus.CHANGED, "fwd=stale; fwd-status=200; stored", age_seconds=0)

    @classmethod
    def stale(cls, upstream_status: int | None, age_seconds: int) -> Self:
        """Held and too old; the upstream was asked and failed, with a status or without an answer."""
        status = "" if upstream_status is None else f"; fwd-status={upstream_status}"
        return cls(CacheStatus.STALE, f"fwd=stale{status}; detail=stale-if-error", age_seconds=age_seconds)

    @classmethod
    def stale_unasked(cls, ttl_seconds: int, age_seconds: int) -> Self:
        """Held and too old, for `-ttl_seconds`; the upstream is known to fail, so nobody was asked."""
        return cls(
            CacheStatus.STALE, f"hit; ttl={ttl_seconds}; detail=stale-if-error", age_seconds=age_seconds
        )

    def __str__(self) -> str:
        return f"mirrord; {self.parameters}"


def with_cache_status(ask: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let the errors of a use case say how they came about, as its answers do."""

    @wraps(ask)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await ask(*args, **kwargs)
        except RegistryError as error:
            if error.cache_status is None:
                error.cache_status = str(_outcome_of(error))
            raise

    return call


def _outcome_of(error: RegistryError) -> CacheResult:
    match error:
        case UpstreamError():
            return CacheResult.asked(error.upstream_status)
        case Unavailable():
            return CacheResult.asked(None)
    return CacheResult.asked(error.status)
