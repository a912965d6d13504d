from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.repair import describe_loss
from mirrord.store.history import DamagedJournal


class DescribeLossTests(SynchronousTestCase):
    def test_every_form(self) -> None:
        """Lost changes are listed as numbers and ranges, with those of which nobody knows at the end."""
        for lost, after, text in (
            ((), None, "no change is lost"),
            ((range(5, 8), range(9, 10)), None, "lost changes: 5-7, 9"),
            ((range(3, 4),), 12, "lost changes: 3, any after 12"),
            ((), 12, "lost changes: any after 12"),
        ):
            damaged = DamagedJournal(path=Path("hosted.journal-1"), lost=lost, lost_after=after)
            self.assertEqual(text, describe_loss(damaged))
