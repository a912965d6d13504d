from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.size_hints import SizeHints
from tests.unit.admin.cases import image, layer
from tests.unit.mirrored.cases import OTHER, UBUNTU


class SizeHintsTests(SynchronousTestCase):
    def test_repository(self) -> None:
        """A hint is for the repository of the manifest alone, and the latest one counts."""
        hints, blob = SizeHints(), layer(b"abc")
        self.assertIsNone(hints.get(UBUNTU, blob.digest))
        hints.add(UBUNTU, image(blob))
        self.assertEqual((3, None), (hints.get(UBUNTU, blob.digest), hints.get(OTHER, blob.digest)))
