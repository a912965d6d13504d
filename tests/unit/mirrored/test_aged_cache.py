"""Tests of mirrord/mirrored/aged_cache.py."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.aged_cache import MAX_ENTRIES, AgedCache


class AgedCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cache: AgedCache[int, str] = AgedCache(self.clock.seconds, 10, len)

    def cached(self, *keys: int) -> list[str | None]:
        return [None if entry is None else entry.value for entry in map(self.cache.get, keys)]

    def test_weight(self) -> None:
        """The least recently used values are evicted when the weight exceeds the bound."""
        for key, value in enumerate(("aaaa", "bbbb", "cc", "d")):
            self.cache.put(key, value)
        self.assertEqual([None, "bbbb", "cc", "d"], self.cached(0, 1, 2, 3))

        self.cached(1)
        self.cache.put(4, "eeee")
        self.assertEqual(["bbbb", None, "d", "eeee"], self.cached(1, 2, 3, 4))

    def test_number(self) -> None:
        """Values that weigh nothing are bounded in number."""
        for key in range(MAX_ENTRIES + 1):
            self.cache.put(key, "")
        self.assertEqual([None, "", ""], self.cached(0, 1, MAX_ENTRIES))

    def test_too_heavy(self) -> None:
        """A value heavier than the bound is not cached, and evicts only what it replaces."""
        self.cache.put(0, "a")
        self.cache.put(1, "b")
        self.cache.put(1, "b" * 11)
        self.assertEqual(["a", None], self.cached(0, 1))

    def test_replaced(self) -> None:
        """A value that is put again has age 0 and is weighed once."""
        self.cache.put(0, "aaaaaaaa")
        self.clock.advance(5)
        self.cache.put(1, "b")
        self.cache.put(0, "cccccccc")
        self.clock.advance(2)
        entry = self.cache.get(0)
        assert entry is not None
        self.assertEqual(("cccccccc", 2), (entry.value, entry.age_seconds))
        self.assertEqual(["b"], self.cached(1))

    def test_deleted(self) -> None:
        """A deleted value is gone, and deleting a missing one does nothing."""
        self.cache.put(0, "a")
        self.cache.delete(0)
        self.cache.delete(0)
        self.assertEqual([None], self.cached(0))
