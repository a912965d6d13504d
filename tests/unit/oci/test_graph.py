"""Tests of mirrord/oci/graph.py."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import HostedManifest
from mirrord.oci.digest import Digest
from mirrord.oci.graph import STEPS_PER_SLICE, edges_of, reachable, reachable_only_from

T = TypeVar("T")


def finish(work: Generator[None, None, T]) -> tuple[T, int]:
    """Return the result of a generator, and how often it yielded."""
    slices = 0
    while True:
        try:
            next(work)
        except StopIteration as finished:
            return finished.value, slices
        slices += 1


def digest(number: int) -> Digest:
    return Digest.of(b"%d" % number)


def digests(numbers: Iterable[int]) -> list[Digest]:
    return [digest(number) for number in numbers]


def graph(edges: Mapping[int, Sequence[int]]) -> dict[Digest, list[Digest]]:
    return {digest(number): digests(targets) for number, targets in edges.items()}


def manifest(number: int, children: Sequence[int] = (), subject: int | None = None) -> HostedManifest:
    return HostedManifest(
        digest=digest(number),
        size=1,
        idle_seconds=0.0,
        subject=None if subject is None else digest(subject),
        children=tuple(digests(children)),
    )


class GraphTests(SynchronousTestCase):
    def test_edges(self) -> None:
        """An index leads to its manifests, and a subject to its referrers, even if it is absent."""
        manifests = [manifest(1, [2, 3]), manifest(2), manifest(4, subject=1), manifest(5, subject=9)]
        edges, slices = finish(edges_of(manifests))
        self.assertEqual(graph({1: [2, 3, 4], 2: [], 4: [], 5: [], 9: [5]}), edges)
        self.assertEqual(1, slices)

    def test_reachable(self) -> None:
        """Every node is found once, after all that lead to it."""
        edges = graph({1: [2, 3], 2: [4], 3: [4, 5], 6: [5]})
        found, _ = finish(reachable([digest(1)], edges))
        self.assertEqual(digests([1, 2, 3, 4, 5]), sorted(found, key=digests(range(9)).index))
        for parent in found:
            for child in edges.get(parent, ()):
                self.assertLess(found.index(parent), found.index(child))

    def test_without(self) -> None:
        """No path leads through a node that is excluded, also when it is a root."""
        edges = graph({1: [2, 3], 2: [4], 3: [5], 5: [3]})
        found, _ = finish(reachable(digests([1, 2]), edges, {digest(2)}))
        self.assertEqual(set(digests([1, 3, 5])), set(found))

    def test_slices(self) -> None:
        """A walk yields once in so many steps."""
        edges = graph({number: [number + 1] for number in range(5 * STEPS_PER_SLICE)})
        found, slices = finish(reachable([digest(0)], edges))
        self.assertEqual(5 * STEPS_PER_SLICE + 1, len(found))
        self.assertEqual(10, slices)
        manifests = [manifest(number) for number in range(5 * STEPS_PER_SLICE)]
        self.assertEqual(5, finish(edges_of(manifests))[1])

    def test_only(self) -> None:
        """What another node leads to stays; what is kept stays with all that it leads to."""
        edges = graph({1: [2, 3], 4: [3], 5: [6]})
        nodes = set(digests(range(1, 7)))
        removable, _ = finish(reachable_only_from([digest(1)], nodes, edges))
        self.assertEqual({digest(1), digest(2)}, set(removable))
        removable, _ = finish(reachable_only_from(digests([1, 4, 5]), nodes, edges, keep=[digest(4)]))
        self.assertEqual(set(digests([1, 2, 5, 6])), set(removable))

    def test_forced(self) -> None:
        """A forced node is removed although another leads to it, and what only it led to as well."""
        edges = graph({1: [2], 2: [3], 1000: [2]})
        forced = digest(2)
        removable, _ = finish(reachable_only_from([forced], digests([1, 2, 3, 1000]), edges, forced=[forced]))
        self.assertEqual(digests([2, 3]), removable)

    @given(st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4)), st.data())
    def test_what_stays_is_whole(self, numbers: dict[int, list[int]], data: st.DataObject) -> None:
        """Whatever the graph, nothing that stays leads to what is removed, and no root stays for nothing."""
        chosen = st.sets(st.integers(0, 9))
        roots, kept = set(digests(data.draw(chosen))), set(digests(data.draw(chosen)))
        edges, nodes = graph(numbers), set(digests(range(10)))
        removable = set(finish(reachable_only_from(roots, nodes, edges, keep=kept))[0])
        staying = nodes - removable
        self.assertLessEqual(kept, staying)
        for node in staying:
            self.assertFalse(removable.intersection(edges.get(node, ())))
        needed = set(finish(reachable(nodes - set(finish(reachable(roots, edges, kept))[0]), edges))[0])
        self.assertEqual(roots - needed, roots & removable)
