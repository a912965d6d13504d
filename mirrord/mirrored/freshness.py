"""Freshness: may this cached tag be served now? Pure: times are wall clock seconds, passed by the caller.

A tag has up to two observations: *cached*, whose manifest is stored, and *pending*, which is only known by
HEAD. The newer one is what the tag names; the cached one can be served if the upstream fails. After the clock
was set back, an observation may be in the future: that tag is revalidated, and its age counts as 0 while it
has to be served stale.
"""

import attrs

from mirrord.oci.content import TagObservation, TagRecord

_CLOCK_SLACK_SECONDS = 5.0


@attrs.frozen
class FreshTag:
    """A tag that was confirmed recently enough; it stays fresh for `ttl_seconds`."""

    observation: TagObservation
    age_seconds: int
    ttl_seconds: int


@attrs.frozen
class StaleTag:
    """A cached observation that may be served stale; it has been stale for `-ttl_seconds`."""

    observation: TagObservation
    age_seconds: int
    ttl_seconds: int


@attrs.frozen
class FreshnessPolicy:
    """How long a tag is fresh, and how much longer it may be served while the upstream fails."""

    tag_ttl_seconds: float
    stale_if_error_seconds: float

    def fresh(self, record: TagRecord | None, now: float) -> FreshTag | None:
        """Return what the tag names at `now`; None if it has to be revalidated."""
        newest = None if record is None else record.newest
        if newest is None or not _is_credible(newest, now) or self._ttl(newest, now) <= 0:
            return None
        return FreshTag(newest, _age(newest, now), int(self._ttl(newest, now)))

    def stale(self, record: TagRecord | None, now: float) -> StaleTag | None:
        """Return what may be served of a tag while its upstream fails."""
        if record is None or record.cached is None:
            return None
        ttl = self._ttl(record.cached, now)
        if ttl + self.stale_if_error_seconds <= 0:
            return None
        return StaleTag(record.cached, _age(record.cached, now), min(0, int(ttl)))

    def _ttl(self, observation: TagObservation, now: float) -> float:
        return self.tag_ttl_seconds - max(0.0, now - observation.observed_at)


def _is_credible(observation: TagObservation, now: float) -> bool:
    return observation.observed_at <= now + _CLOCK_SLACK_SECONDS


def _age(observation: TagObservation, now: float) -> int:
    return max(0, int(now - observation.observed_at))
