"""A memory that is bounded in number and in time."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.recent import Recent


class RecentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.recent: Recent[str, int] = Recent(self.clock.seconds, 10, 2)

    def test_time(self) -> None:
        """A value is remembered for its seconds from when it was last noted."""
        self.recent.note("a", 1)
        self.clock.advance(9)
        self.recent.note("a", 2)
        self.clock.advance(9)
        self.assertEqual(self.recent.recall("a"), 2)
        self.clock.advance(1)
        self.assertIsNone(self.recent.recall("a"))
        self.assertEqual(len(self.recent), 0)

    def test_number(self) -> None:
        """Of too many the one noted longest ago is forgotten."""
        for key in "aba":
            self.recent.note(key, 1)
        self.recent.note("c", 1)
        self.assertEqual([self.recent.recall(key) for key in "abc"], [1, None, 1])
