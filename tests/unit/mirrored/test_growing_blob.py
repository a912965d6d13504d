"""Tests of mirrored/growing_blob.py."""

from twisted.internet.defer import CancelledError

from mirrord.mirrored.growing_blob import FAR_BYTES
from mirrord.repository import BlobReader
from tests.unit.mirrored.cases import DownloadCase


class FarRangeTests(DownloadCase):
    """Ranges far ahead of a download."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.upstream.add_blob(bytes(FAR_BYTES + 1000))

    def far(self, blob: BlobReader, first: int = FAR_BYTES + 500) -> object:
        return self.successResultOf(self.begin(blob.pass_through(first, first + 10)))

    def test_near(self) -> None:
        """A near range is read from the download."""
        self.assertIsNone(self.far(self.open(), FAR_BYTES))
        self.assertEqual(1, self.upstream.count("GET blob"))

    def test_far(self) -> None:
        """A far range is passed through by a request for just these bytes."""
        self.assertIsNotNone(self.far(self.open()))
        self.assertEqual(
            (FAR_BYTES + 500, FAR_BYTES + 510),
            (self.upstream.requests[-1].offset, self.upstream.requests[-1].stop),
        )

    def test_four_at_a_time(self) -> None:
        """Four far ranges are passed through at a time; a fifth one is read from the download."""
        blob = self.open()
        bodies = [self.far(blob) for _ in range(4)]
        self.assertIsNone(self.far(blob))
        bodies[0].abort()  # type: ignore[attr-defined]
        bodies[0].abort()  # type: ignore[attr-defined]

        self.assertIsNotNone(self.far(blob))
        self.assertIsNone(self.far(blob))

    def test_disconnect(self) -> None:
        """A client that disconnects before its far range has begun releases its slot."""
        blob = self.open()
        self.upstream.is_hanging = True
        for _ in range(4):
            waiting = self.begin(blob.pass_through(FAR_BYTES + 500, FAR_BYTES + 510))
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.upstream.respond()

        self.assertIsNotNone(self.far(blob))

    def test_late(self) -> None:
        """A far range is read from the download if the response headers are due."""
        blob = self.open()
        self.clock.advance(21.5)

        self.assertIsNone(self.far(blob))

    def test_upstream_without_ranges(self) -> None:
        """A far range is read from the download if the upstream does not support ranges."""
        self.upstream.accepts_ranges = False

        self.assertIsNone(self.far(self.open()))
        self.assertTrue(self.upstream.bodies[-1].is_aborted)
