"""Two rounds of the soak; `python -m tests.soak` runs for an hour (docs/testing.md)."""

import shutil
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.case import MIB
from tests.soak.drawing import draw
from tests.soak.soak import Sample, soak

ROUNDS = 2
_SEED = 1
_MAX_MEMORY = 200 * MIB
_MAX_DESCRIPTORS = 300
_MAX_DISK = 120 * MIB


class SoakTests(SynchronousTestCase):
    def test_rounds(self) -> None:
        """With faults, kills and reloads the daemon keeps what it acknowledged, and its use is bounded."""
        folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        with soak(folder, _SEED) as running:
            for number in range(ROUNDS):
                running.run_round(number)
        self.assertEqual([], running.problems)
        self.assertGreater(min(running.steps, running.pulls, running.facts), 50)
        self.assertLess(max(sample.memory for sample in running.samples), _MAX_MEMORY)
        self.assertLess(max(sample.descriptors for sample in running.samples), _MAX_DESCRIPTORS)
        self.assertLess(max(sample.disk for sample in running.samples), _MAX_DISK)


class DrawingTests(SynchronousTestCase):
    def test_drawing(self) -> None:
        """A drawing is an SVG with a line for each of memory, descriptors and disk."""
        samples = [Sample(0.0, 10 * MIB, 10, MIB), Sample(60.0, 20 * MIB, 5, 2 * MIB)]
        drawing = ElementTree.fromstring(draw(samples))
        lines = [each.get("points") for each in drawing.iter() if each.tag.endswith("polyline")]
        self.assertEqual(["90.0,130.0 990.0,50.0", "90.0,260.0 990.0,340.0", "90.0,550.0 990.0,470.0"], lines)
