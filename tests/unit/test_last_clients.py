from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.last_clients import MAX_VISITS, ClientVisit, LastClients
from mirrord.oci.digest import Digest
from mirrord.oci.names import Tag
from tests.unit.admin.case import DEBIAN, UBUNTU

LATEST, DIGEST = Tag("latest"), Digest.of(b"x")


class VisitorsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.visitors = LastClients(self.clock.seconds)

    def test_last(self) -> None:
        """Of all visits for a tag and its digest the last one is told."""
        self.visitors.saw(UBUNTU, LATEST, "one")
        self.clock.advance(5)
        self.visitors.saw(UBUNTU, DIGEST, "two")
        self.visitors.saw(DEBIAN, LATEST, "three")

        self.assertEqual(ClientVisit("one", 0.0), self.visitors.last(UBUNTU, LATEST))
        self.assertEqual(ClientVisit("two", 5.0), self.visitors.last(UBUNTU, LATEST, DIGEST))
        self.assertIsNone(self.visitors.last(DEBIAN, DIGEST))

    def test_bounded(self) -> None:
        """What was asked for longest ago is forgotten when there is too much."""
        for number in range(MAX_VISITS):
            self.visitors.saw(UBUNTU, Tag(f"v{number}"), "someone")
        self.visitors.saw(UBUNTU, Tag("v0"), "again")
        self.visitors.saw(UBUNTU, LATEST, "new")

        self.assertIsNone(self.visitors.last(UBUNTU, Tag("v1")))
        self.assertIsNotNone(self.visitors.last(UBUNTU, Tag("v0")))
        self.assertIsNotNone(self.visitors.last(UBUNTU, Tag("v2")))
