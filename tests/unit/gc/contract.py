"""The contract of EvictableContent: tests that every implementation inherits."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.ports import EvictableContent
from mirrord.oci.content import ContentKind, Entry
from tests.unit.gc.cases import DIGEST, OTHER

T = TypeVar("T")


class EvictableContentTests(SynchronousTestCase):
    """Not collected here: each store inherits these tests."""

    content: EvictableContent

    def add(self) -> str:
        """Add a blob, and return the name of its entry."""
        raise NotImplementedError

    def add_partial(self) -> str:
        """Add a partial, and return the name of its entry."""
        raise NotImplementedError

    def use(self, name: str) -> None:
        """Let some time pass, and use a blob."""
        raise NotImplementedError

    def pin(self, name: str) -> None:
        """Make a blob busy."""
        raise NotImplementedError

    def finish(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def entries(self) -> list[Entry]:
        self.finish(self.content.flush())
        return list(self.content.entries())

    def test_order(self) -> None:
        """After a flush, what was used last comes last."""
        first, second, third = (self.add() for _ in range(3))
        self.assertEqual([first, second, third], [entry.name for entry in self.entries()])
        self.use(first)
        self.assertEqual([second, third, first], [entry.name for entry in self.entries()])

    def test_sizes(self) -> None:
        """The total is the size of all entries."""
        self.assertEqual(0, self.content.total_bytes)
        self.add()
        self.add_partial()
        self.assertEqual(self.content.total_bytes, sum(entry.size for entry in self.entries()))

    def test_partials(self) -> None:
        """Partials are entries, and listed apart."""
        self.add()
        name = self.add_partial()
        self.assertEqual([name], [entry.name for entry in self.content.partials()])
        partials = [entry for entry in self.entries() if entry.kind is ContentKind.PARTIAL]
        self.assertEqual(list(self.content.partials()), partials)

    def test_evict(self) -> None:
        """Evicted entries are returned, are absent at once, and cannot be evicted again."""
        self.add()
        self.add_partial()
        kept = self.add()
        entries = [entry for entry in self.entries() if entry.name != kept]
        self.assertCountEqual(entries, self.finish(self.content.evict(entries)))
        self.assertEqual([kept], [entry.name for entry in self.entries()])
        self.assertEqual([], self.finish(self.content.evict(entries)))
        self.assertEqual(self.content.total_bytes, sum(entry.size for entry in self.entries()))

    def test_busy(self) -> None:
        """A busy entry is not evicted, and its size is part of the busy bytes."""
        busy, idle = self.add(), self.add()
        entries = self.entries()
        self.pin(busy)
        self.assertEqual([busy], [entry.name for entry in entries if self.content.is_busy(entry)])
        self.assertEqual([idle], [entry.name for entry in self.finish(self.content.evict(entries))])
        self.assertEqual(self.content.total_bytes, self.content.busy_bytes)

    def test_reservations(self) -> None:
        """A second reservation for the same digest replaces the first, and 0 cancels it."""
        self.content.reserve(DIGEST, 4096)
        self.content.reserve(OTHER, 8192)
        self.content.reserve(DIGEST, 12288)
        self.assertEqual((20480, 0, 0), self.reservations())
        self.content.reserve(DIGEST, 0)
        self.assertEqual((8192, 0, 0), self.reservations())

    def test_loans(self) -> None:
        """Lent bytes are counted apart, in the same way."""
        self.content.lend(DIGEST, 4096)
        self.content.lend(OTHER, 8192)
        self.content.lend(DIGEST, 12288)
        self.assertEqual((0, 20480, 0), self.reservations())
        self.content.lend(DIGEST, 0)
        self.assertEqual((0, 8192, 0), self.reservations())

    def reservations(self) -> tuple[int, int, int]:
        return self.content.reserved_bytes, self.content.lent_bytes, self.content.total_bytes
