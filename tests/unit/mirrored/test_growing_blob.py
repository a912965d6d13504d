"""Tests of mirrored/growing_blob.py."""

from twisted.internet.defer import CancelledError, Deferred

from mirrord.mirrored.growing_blob import FAR_BYTES
from mirrord.repository import BlobReader
from tests.unit.mirrored.cases import PullBlobs


class FarRangeTests(PullBlobs):
    """Ranges far ahead of a download."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.upstream.add_blob(bytes(FAR_BYTES + 1000))

    def far(self, blob: BlobReader, first: int = FAR_BYTES + 500) -> object:
        return self.successResultOf(Deferred.fromCoroutine(blob.pass_through(first, first + 10)))

    def test_near(self) -> None:
        """A near range follows the download."""
        self.assertIsNone(self.far(self.open(), FAR_BYTES))
        self.assertEqual(1, self.upstream.count("GET blob"))

    def test_far(self) -> None:
        """A far range is one request of its own for just these bytes."""
        self.assertIsNotNone(self.far(self.open()))
        self.assertEqual(
            (FAR_BYTES + 500, FAR_BYTES + 510),
            (self.upstream.requests[-1].offset, self.upstream.requests[-1].stop),
        )

    def test_four_at_a_time(self) -> None:
        """A fifth far range follows the download, until one of the four has ended."""
        blob = self.open()
        bodies = [self.far(blob) for _ in range(4)]
        self.assertIsNone(self.far(blob))
        bodies[0].abort()  # type: ignore[attr-defined]
        bodies[0].abort()  # type: ignore[attr-defined]

        self.assertIsNotNone(self.far(blob))
        self.assertIsNone(self.far(blob))

    def test_leaving(self) -> None:
        """A client that leaves while its far range is asked for gives its place free."""
        blob = self.open()
        self.upstream.is_hanging = True
        for _ in range(4):
            waiting = Deferred.fromCoroutine(blob.pass_through(FAR_BYTES + 500, FAR_BYTES + 510))
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.upstream.respond()

        self.assertIsNotNone(self.far(blob))

    def test_late(self) -> None:
        """When the headers are due, a far range follows the download instead of asking."""
        blob = self.open()
        self.clock.advance(21.5)

        self.assertIsNone(self.far(blob))

    def test_upstream_without_ranges(self) -> None:
        """Where the upstream takes no ranges, a far range follows the download."""
        self.upstream.accepts_ranges = False

        self.assertIsNone(self.far(self.open()))
        self.assertTrue(self.upstream.bodies[-1].is_aborted)
