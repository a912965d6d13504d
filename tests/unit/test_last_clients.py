"""Tests of mirrord/last_clients.py."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.last_clients import MAX_REQUESTS, LastClients, LastRequest
from mirrord.oci.digest import Digest
from mirrord.oci.names import Tag
from tests.unit.admin.cases import DEBIAN, UBUNTU

LATEST, DIGEST = Tag("latest"), Digest.of(b"x")


class LastClientsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clients = LastClients(self.clock.seconds)

    def test_last(self) -> None:
        """Of all requests for a tag and its digest the last one is returned."""
        self.clients.record(UBUNTU, LATEST, "one")
        self.clock.advance(5)
        self.clients.record(UBUNTU, DIGEST, "two")
        self.clients.record(DEBIAN, LATEST, "three")

        self.assertEqual(LastRequest("one", 0.0), self.clients.last(UBUNTU, LATEST))
        self.assertEqual(LastRequest("two", 5.0), self.clients.last(UBUNTU, LATEST, DIGEST))
        self.assertIsNone(self.clients.last(DEBIAN, DIGEST))

    def test_bounded(self) -> None:
        """The least recently requested reference is discarded when there are too many."""
        for number in range(MAX_REQUESTS):
            self.clients.record(UBUNTU, Tag(f"v{number}"), "someone")
        self.clients.record(UBUNTU, Tag("v0"), "again")
        self.clients.record(UBUNTU, LATEST, "new")

        self.assertIsNone(self.clients.last(UBUNTU, Tag("v1")))
        self.assertIsNotNone(self.clients.last(UBUNTU, Tag("v0")))
        self.assertIsNotNone(self.clients.last(UBUNTU, Tag("v2")))
