"""Logins that have succeeded before."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.proven_logins import KNOWN_SECONDS, MAX_ENTRIES, PROVEN_SECONDS, ProvenLogins

HERE, THERE = "192.0.2.1", "198.51.100.1"


class ProvenLoginsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.proven = ProvenLogins(self.clock.seconds)

    def test_only_this_login(self) -> None:
        """A login is proven for its user, network and password only."""
        self.proven.add("ann", HERE, b"apple")
        self.assertTrue(self.proven.is_proven("ann", HERE, b"apple"))
        for user, network, fingerprint in (
            ("bob", HERE, b"apple"),
            ("ann", THERE, b"apple"),
            ("ann", HERE, b"x"),
        ):
            self.assertFalse(self.proven.is_proven(user, network, fingerprint))
        self.assertTrue(self.proven.is_known("ann", HERE))
        self.assertFalse(self.proven.is_known("ann", THERE))
        self.assertFalse(self.proven.is_known("bob", HERE))

    def test_use_extends(self) -> None:
        """A password is remembered for an hour after its last use; wrong ones do not extend that."""
        self.proven.add("ann", HERE, b"apple")
        for _ in range(10):
            self.clock.advance(PROVEN_SECONDS - 1)
            self.assertTrue(self.proven.is_proven("ann", HERE, b"apple"))
        self.clock.advance(PROVEN_SECONDS - 1)
        self.assertFalse(self.proven.is_proven("ann", HERE, b"x"))
        self.clock.advance(1)
        self.assertFalse(self.proven.is_proven("ann", HERE, b"apple"))

    def test_known(self) -> None:
        """A user is known in a network for thirty days."""
        self.proven.add("ann", HERE, b"apple")
        self.clock.advance(KNOWN_SECONDS - 1)
        self.assertTrue(self.proven.is_known("ann", HERE))
        self.clock.advance(1)
        self.assertFalse(self.proven.is_known("ann", HERE))

    def test_bound(self) -> None:
        """When there are too many, the user with the most of them loses the oldest."""
        self.proven.add("ann", HERE, b"apple")
        for number in range(2 * MAX_ENTRIES):
            self.proven.add("eve", str(number), b"x")
            if number == MAX_ENTRIES:
                self.assertTrue(self.proven.is_proven("eve", "2", b"x"))
        self.assertEqual(len(self.proven), MAX_ENTRIES)
        self.assertTrue(self.proven.is_proven("ann", HERE, b"apple"))
        self.assertFalse(self.proven.is_known("eve", "3"))
        self.assertTrue(self.proven.is_known("eve", str(2 * MAX_ENTRIES - 1)))

    def test_no_secret(self) -> None:
        """No fingerprint is in the repr."""
        self.proven.add("ann", HERE, b"apple")
        self.assertNotIn("apple", repr(self.proven))
