"""Tests of mirrored/freshness.py."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.freshness import FreshnessPolicy, FreshTag, StaleTag
from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_MANIFEST, Descriptor

FRESHNESS = FreshnessPolicy(tag_ttl_seconds=300.0, stale_if_error_seconds=1000.0)


def sighting(seen_at: float, text: bytes = b"one") -> TagObservation:
    return TagObservation(Descriptor(OCI_MANIFEST, Digest.of(text), 3), seen_at)


class FreshnessTests(SynchronousTestCase):
    """May this cached tag answer now?"""

    def test_unknown(self) -> None:
        """Nothing is known of an unseen tag."""
        self.assertIsNone(FRESHNESS.fresh(None, 0.0))
        self.assertIsNone(FRESHNESS.stale(None, 0.0))

    def test_fresh(self) -> None:
        """A tag answers until its ttl is over."""
        held = sighting(1000.0)
        self.assertEqual(FreshTag(held, 299, 1), FRESHNESS.fresh(TagRecord(held), 1299.0))
        self.assertIsNone(FRESHNESS.fresh(TagRecord(held), 1300.0))
        self.assertEqual(StaleTag(held, 300, 0), FRESHNESS.stale(TagRecord(held), 1300.0))

    def test_the_newer_sighting_is_the_tag(self) -> None:
        """A pending sighting that is newer than the held one says what the tag is."""
        held, pending = sighting(1000.0), sighting(1200.0, b"two")
        verdict = FRESHNESS.fresh(TagRecord(held, pending), 1250.0)

        self.assertEqual(FreshTag(pending, 50, 250), verdict)

    def test_fallback_is_held(self) -> None:
        """Only a held sighting may be served stale, for `stale_if_error` and no longer."""
        held, pending = sighting(1000.0), sighting(1200.0, b"two")

        self.assertIsNone(FRESHNESS.stale(TagRecord(None, pending), 1250.0))
        self.assertEqual(StaleTag(held, 400, -100), FRESHNESS.stale(TagRecord(held, pending), 1400.0))
        self.assertIsNone(FRESHNESS.stale(TagRecord(held), 2300.0))

    @given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
    def test_any_clock(self, seen_at: float, now: float) -> None:
        """Whatever the clock does, no age is negative and nothing from the future is fresh."""
        record = TagRecord(sighting(seen_at))
        fresh, fallback = FRESHNESS.fresh(record, now), FRESHNESS.stale(record, now)
        if fresh is not None:
            self.assertGreaterEqual(fresh.age_seconds, 0)
            self.assertLessEqual(seen_at, now + 5)
        if fallback is not None:
            self.assertGreaterEqual(fallback.age_seconds, 0)
            self.assertLessEqual(fallback.ttl_seconds, 0)
