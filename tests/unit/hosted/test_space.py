"""Tests of the space reservations of mirrord/hosted/uploads.py."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.hosted.uploads import SpaceReservations
from mirrord.oci.errors import Unavailable
from tests.fakes.space import FakeSpace


class SpaceReservationsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reservations = SpaceReservations(FakeSpace(free=10))

    def test_together(self) -> None:
        """Bytes reserved for one body are not available to another until they are written or released."""
        with self.reservations.open() as first, self.reservations.open() as second:
            self.successResultOf(Deferred.fromCoroutine(first.renew(6)))
            self.failureResultOf(Deferred.fromCoroutine(second.renew(5)), Unavailable)
        self.assertEqual(0, self.reservations.total)

        with self.reservations.open() as third:
            self.successResultOf(Deferred.fromCoroutine(third.renew(10)))

    def test_filled(self) -> None:
        """Written bytes are not reserved any more: the file system counts them."""
        with self.reservations.open() as reservation:
            self.successResultOf(Deferred.fromCoroutine(reservation.renew(6)))
            reservation.consume(4)
            self.assertEqual((2, 2), (reservation.left, self.reservations.total))
            self.failureResultOf(Deferred.fromCoroutine(self.reservations.check(9)), Unavailable)

            self.successResultOf(Deferred.fromCoroutine(reservation.renew(10)))
            self.assertEqual(10, self.reservations.total)
