from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.hosted.space import SpaceReservations
from mirrord.oci.errors import Unavailable
from tests.fakes.hosted import FakeHostedRoom


class ClaimsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.claims = SpaceReservations(FakeHostedRoom(free=10))

    def test_together(self) -> None:
        """What one body has claimed another cannot have, until it is written or let go."""
        with self.claims.open() as first, self.claims.open() as second:
            self.successResultOf(Deferred.fromCoroutine(first.renew(6)))
            self.failureResultOf(Deferred.fromCoroutine(second.renew(5)), Unavailable)
        self.assertEqual(0, self.claims.total)

        with self.claims.open() as third:
            self.successResultOf(Deferred.fromCoroutine(third.renew(10)))

    def test_filled(self) -> None:
        """What is written is claimed no longer: the file system counts it."""
        with self.claims.open() as claim:
            self.successResultOf(Deferred.fromCoroutine(claim.renew(6)))
            claim.consume(4)
            self.assertEqual((2, 2), (claim.left, self.claims.total))
            self.failureResultOf(Deferred.fromCoroutine(self.claims.check(9)), Unavailable)

            self.successResultOf(Deferred.fromCoroutine(claim.renew(10)))
            self.assertEqual(10, self.claims.total)
