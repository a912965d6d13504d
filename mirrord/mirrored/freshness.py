"""May this cached tag answer now? Pure: times are wall clock seconds, given by the caller.

A tag has up to two sightings: *held*, whose manifest is stored, and *pending*, which was only seen
by HEAD. The newer one says what the tag is; the held one is what can be served when the upstream
fails. A clock that was set back makes a sighting look as if it came from the future: that tag is
asked about again, and counts as new for as long as it has to be served stale.
"""

import attrs

from mirrord.oci.content import TagObservation, TagRecord

_CLOCK_SLACK_SECONDS = 5.0


@attrs.frozen
class FreshTag:
    """The tag was asked about recently enough; `ttl_seconds` are left."""

    sighting: TagObservation
    age_seconds: int
    ttl_seconds: int


@attrs.frozen
class StaleTag:
    """A held sighting that may be served stale; `ttl_seconds` is negative: for how long it has been so."""

    sighting: TagObservation
    age_seconds: int
    ttl_seconds: int


@attrs.frozen
class FreshnessPolicy:
    """For how long a tag's sighting answers, and for how much longer while the upstream fails."""

    tag_ttl_seconds: float
    stale_if_error_seconds: float

    def judge(self, record: TagRecord | None, now: float) -> FreshTag | None:
        """What the tag is at `now`; None where the upstream has to be asked."""
        newest = None if record is None else record.newest
        if newest is None or not _is_credible(newest, now) or self._left(newest, now) <= 0:
            return None
        return FreshTag(newest, _age(newest, now), int(self._left(newest, now)))

    def fallback(self, record: TagRecord | None, now: float) -> StaleTag | None:
        """What may be served of a tag while its upstream fails."""
        if record is None or record.cached is None:
            return None
        left = self._left(record.cached, now)
        if left + self.stale_if_error_seconds <= 0:
            return None
        return StaleTag(record.cached, _age(record.cached, now), min(0, int(left)))

    def _left(self, sighting: TagObservation, now: float) -> float:
        return self.tag_ttl_seconds - max(0.0, now - sighting.observed_at)


def _is_credible(sighting: TagObservation, now: float) -> bool:
    return sighting.observed_at <= now + _CLOCK_SLACK_SECONDS


def _age(sighting: TagObservation, now: float) -> int:
    return max(0, int(now - sighting.observed_at))
