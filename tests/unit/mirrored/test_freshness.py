"""Tests of mirrored/freshness.py."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.freshness import FreshnessPolicy, FreshTag, StaleTag
from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_MANIFEST, Descriptor

FRESHNESS = FreshnessPolicy(tag_ttl_seconds=300.0, stale_if_error_seconds=1000.0)


def observation(observed_at: float, text: bytes = b"one") -> TagObservation:
    return TagObservation(Descriptor(OCI_MANIFEST, Digest.of(text), 3), observed_at)


class FreshnessTests(SynchronousTestCase):
    """The decision whether a cached tag may be served."""

    def test_unknown(self) -> None:
        """An unknown tag is neither fresh nor stale."""
        self.assertIsNone(FRESHNESS.fresh(None, 0.0))
        self.assertIsNone(FRESHNESS.stale(None, 0.0))

    def test_fresh(self) -> None:
        """A tag is fresh until its ttl is over."""
        cached = observation(1000.0)
        self.assertEqual(FreshTag(cached, 299, 1), FRESHNESS.fresh(TagRecord(cached), 1299.0))
        self.assertIsNone(FRESHNESS.fresh(TagRecord(cached), 1300.0))
        self.assertEqual(StaleTag(cached, 300, 0), FRESHNESS.stale(TagRecord(cached), 1300.0))

    def test_newest_observation(self) -> None:
        """A pending observation that is newer than the cached one decides what the tag names."""
        cached, pending = observation(1000.0), observation(1200.0, b"two")
        fresh = FRESHNESS.fresh(TagRecord(cached, pending), 1250.0)

        self.assertEqual(FreshTag(pending, 50, 250), fresh)

    def test_stale(self) -> None:
        """Only a cached observation is served stale, and no longer than `stale_if_error`."""
        cached, pending = observation(1000.0), observation(1200.0, b"two")

        self.assertIsNone(FRESHNESS.stale(TagRecord(None, pending), 1250.0))
        self.assertEqual(StaleTag(cached, 400, -100), FRESHNESS.stale(TagRecord(cached, pending), 1400.0))
        self.assertIsNone(FRESHNESS.stale(TagRecord(cached), 2300.0))

    @given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
    def test_any_clock(self, observed_at: float, now: float) -> None:
        """No age is negative, and nothing observed in the future is fresh, whatever the clock does."""
        record = TagRecord(observation(observed_at))
        fresh, fallback = FRESHNESS.fresh(record, now), FRESHNESS.stale(record, now)
        if fresh is not None:
            self.assertGreaterEqual(fresh.age_seconds, 0)
            self.assertLessEqual(observed_at, now + 5)
        if fallback is not None:
            self.assertGreaterEqual(fallback.age_seconds, 0)
            self.assertLessEqual(fallback.ttl_seconds, 0)
