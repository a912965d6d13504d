"""How an answer came about: the words of Cache-Status (RFC 9211), and of the counters."""

from enum import StrEnum
from typing import Self

import attrs


class Way(StrEnum):
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
class Outcome:
    """How an answer came about; `str()` of it is the Cache-Status header (contract.md).

    `ttl_seconds` is how long it stays fresh (negative: for how long it has been stale), None for
    what is immutable. `upstream_status` is what the upstream answered, None where it was not asked
    or gave no answer. `age_seconds` is for tags: how long ago the upstream was last asked.
    """

    way: Way
    ttl_seconds: int | None = None
    upstream_status: int | None = None
    age_seconds: int | None = None

    @classmethod
    def hit(cls, ttl_seconds: int | None = None, age_seconds: int | None = None) -> Self:
        """Answered from what is held; nobody was asked."""
        return cls(Way.HIT, ttl_seconds=ttl_seconds, age_seconds=age_seconds)

    @classmethod
    def stored(cls) -> Self:
        """Fetched for this request, and kept."""
        return cls(Way.STORED)

    @classmethod
    def collapsed(cls) -> Self:
        """Joined what was already being fetched."""
        return cls(Way.COLLAPSED)

    @classmethod
    def asked(cls, upstream_status: int) -> Self:
        """The upstream was asked; nothing is kept."""
        return cls(Way.ASKED, upstream_status=upstream_status)

    @classmethod
    def partial(cls) -> Self:
        """A far range, passed through."""
        return cls(Way.PARTIAL)

    @classmethod
    def revalidated(cls) -> Self:
        """Held and too old; the upstream says that it is unchanged."""
        return cls(Way.REVALIDATED, upstream_status=200, age_seconds=0)

    @classmethod
    def changed(cls) -> Self:
        """Held and too old; the upstream has another one, which is now kept."""
        return cls(Way.CHANGED, upstream_status=200, age_seconds=0)

    @classmethod
    def stale(cls, *, ttl_seconds: int, age_seconds: int, was_asked: bool, upstream_status: int | None) -> Self:
        """Held and too old, and the upstream failed (`was_asked`) or is known to fail."""
        ttl = None if was_asked else ttl_seconds
        return cls(Way.STALE, ttl_seconds=ttl, upstream_status=upstream_status, age_seconds=age_seconds)

    def __str__(self) -> str:
        match self.way:
            case Way.HIT:
                words = ["hit"] if self.ttl_seconds is None else ["hit", f"ttl={self.ttl_seconds}"]
            case Way.STORED:
                words = ["fwd=uri-miss", "stored"]
            case Way.COLLAPSED:
                words = ["fwd=uri-miss", "collapsed"]
            case Way.ASKED:
                words = ["fwd=uri-miss", f"fwd-status={self.upstream_status}"]
            case Way.PARTIAL:
                words = ["fwd=partial"]
            case Way.REVALIDATED:
                words = ["fwd=stale", "fwd-status=200"]
            case Way.CHANGED:
                words = ["fwd=stale", "fwd-status=200", "stored"]
            case Way.STALE if self.ttl_seconds is not None:
                words = ["hit", f"ttl={self.ttl_seconds}", "detail=stale-if-error"]
            case Way.STALE if self.upstream_status is None:
                words = ["fwd=stale", "detail=stale-if-error"]
            case Way.STALE:
                words = ["fwd=stale", f"fwd-status={self.upstream_status}", "detail=stale-if-error"]
        return "; ".join(["mirrord", *words])
