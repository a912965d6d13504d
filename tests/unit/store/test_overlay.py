from twisted.trial.unittest import SynchronousTestCase

from mirrord.store import overlay
from mirrord.store.overlay import Overlay
from mirrord.store.schema import LINKS, LinkRow
from tests.unit.store.cases import layer


class OverlayTests(SynchronousTestCase):
    def put(self, into: Overlay, count: int) -> None:
        for number in range(count):
            key = ("u", "r", str(number))
            into.put(LINKS, key, LinkRow.of(key, layer(b"x"), 0.0))

    def test_a_healthy_disk_forgets_no_row(self) -> None:
        """However many rows arrive between two batches, none is dropped unless the disk refuses."""
        healthy = Overlay()
        self.put(healthy, overlay.MAX_ROWS + 10)
        self.assertIsNot(overlay.UNKNOWN, healthy.get(LINKS, ("u", "r", "0")))
        healthy.begin_batch(with_uses=False)
        healthy.failed()
        self.assertEqual(overlay.MAX_ROWS, sum(1 for _ in healthy.rows(LINKS)))
        healthy.begin_batch(with_uses=False)
        healthy.committed()
        self.put(healthy, overlay.MAX_ROWS + 10)
        self.assertIsNot(overlay.UNKNOWN, healthy.get(LINKS, ("u", "r", "0")))

    def test_uses_are_bounded(self) -> None:
        """Of too many uses the oldest are dropped, while they gather and when they are refused."""
        bounded = Overlay()
        for number in range(overlay.MAX_USES + 10):
            bounded.use(LINKS, ("u", "r", str(number)), 1.0 + number)
        for number, last_use in ((9, 0.0), (10, 11.0)):
            self.assertEqual(last_use, bounded.last_use(LINKS, ("u", "r", str(number))))
        bounded.begin_batch(with_uses=True)
        bounded.use(LINKS, ("u", "r", "new"), 1.0)
        bounded.failed()
        for number, last_use in ((9, 0.0), (10, 0.0), (11, 12.0)):
            self.assertEqual(last_use, bounded.last_use(LINKS, ("u", "r", str(number))))
        self.assertEqual(1.0, bounded.last_use(LINKS, ("u", "r", "new")))

    def test_it_is_bounded(self) -> None:
        """When rows cannot be written for long, uses are dropped first, then the oldest rows."""
        bounded = Overlay()
        bounded.use(LINKS, ("u", "r", "0"), 1.0)
        bounded.begin_batch(with_uses=False)
        bounded.failed()
        self.put(bounded, overlay.MAX_ROWS + 10)
        self.assertFalse(bounded.has_uses)
        self.assertEqual(overlay.MAX_ROWS, sum(1 for _ in bounded.rows(LINKS)))
        self.assertIs(overlay.UNKNOWN, bounded.get(LINKS, ("u", "r", "9")))
        self.assertIsNot(overlay.UNKNOWN, bounded.get(LINKS, ("u", "r", "10")))
