"""A body is written no faster than its client reads it."""

from typing import cast

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.body_writer import BodyWriter
from mirrord.http.request import MirrorRequest


class OutletTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.written: list[int] = []

    def test_room(self) -> None:
        """There is room until the transport pauses the writer, and again when it resumes it."""
        outlet = BodyWriter(cast("MirrorRequest", None), self.written.append)
        self.successResultOf(ensureDeferred(outlet.has_room()))

        outlet.pauseProducing()
        waiting = ensureDeferred(outlet.has_room())
        self.assertNoResult(waiting)
        outlet.resumeProducing()

        self.successResultOf(waiting)

    def test_cancelled(self) -> None:
        """Room that comes after the waiter was cancelled is ignored."""
        outlet = BodyWriter(cast("MirrorRequest", None), self.written.append)
        outlet.pauseProducing()
        waiting = ensureDeferred(outlet.has_room())

        waiting.cancel()
        outlet.resumeProducing()

        self.failureResultOf(waiting)
