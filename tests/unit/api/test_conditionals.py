"""Tests of mirrord/api/conditionals.py."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.api.conditionals import allows_range, etag, matches
from mirrord.oci.digest import Digest

OURS = Digest.of(b"ours")


class ConditionTests(SynchronousTestCase):
    def test_match(self) -> None:
        """If-None-Match matches in every form that clients send."""
        for header in (f'"{OURS}"', f'W/"{OURS}"', str(OURS), "*", f'"x", W/"{OURS}"', f'"a","{OURS}","b"'):
            with self.subTest(header=header):
                self.assertTrue(matches(header, OURS))

    def test_no_match(self) -> None:
        """Another digest, or none, does not match."""
        for header in (None, "", '"sha256:0"', f'"{OURS}x"', f'"{Digest.of(b"other")}"'):
            with self.subTest(header=header):
                self.assertFalse(matches(header, OURS))

    def test_unchanged(self) -> None:
        """A range is served without If-Range, or with the strong entity tag."""
        self.assertTrue(allows_range(None, OURS))
        self.assertTrue(allows_range(etag(OURS), OURS))
        self.assertFalse(allows_range(f'W/"{OURS}"', OURS))
        self.assertFalse(allows_range("Sat, 21 Nov 2026 00:00:00 GMT", OURS))
