"""What a client holds already is not sent again."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.api.conditionals import etag, is_held, is_unchanged
from mirrord.oci.digest import Digest

OURS = Digest.of(b"ours")


class ConditionTests(SynchronousTestCase):
    def test_held(self) -> None:
        """If-None-Match holds in every form that clients send."""
        for header in (f'"{OURS}"', f'W/"{OURS}"', str(OURS), "*", f'"x", W/"{OURS}"', f'"a","{OURS}","b"'):
            with self.subTest(header=header):
                self.assertTrue(is_held(header, OURS))

    def test_not_held(self) -> None:
        """Another digest, or none, is not held."""
        for header in (None, "", '"sha256:0"', f'"{OURS}x"', f'"{Digest.of(b"other")}"'):
            with self.subTest(header=header):
                self.assertFalse(is_held(header, OURS))

    def test_unchanged(self) -> None:
        """A range is served without If-Range, or with our strong entity tag."""
        self.assertTrue(is_unchanged(None, OURS))
        self.assertTrue(is_unchanged(etag(OURS), OURS))
        self.assertFalse(is_unchanged(f'W/"{OURS}"', OURS))
        self.assertFalse(is_unchanged("Sat, 21 Nov 2026 00:00:00 GMT", OURS))
