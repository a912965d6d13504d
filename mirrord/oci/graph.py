"""The graph of a repository, and what is reachable in it.

An edge leads from an index to its manifests, from a manifest to its blobs, and from a subject to its
referrers, which cannot be found without it. Tags are the usual roots. Each function is a generator that
yields after each slice of its work, so that a large repository can be walked on the reactor
(`flight.cooperate.run_in_slices`); the result is what the generator returns.

The nodes are digests, or the text of digests: hundreds of thousands of objects of ours would be visited by
Python's garbage collector again and again, each time for a tenth of a second. Strings are not.
"""

from collections.abc import Collection, Container, Generator, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from mirrord.oci.content import HostedManifest
from mirrord.oci.digest import Digest

STEPS_PER_SLICE = 256

N = TypeVar("N", bound=Hashable)


def edges_of(manifests: Iterable[HostedManifest]) -> Generator[None, None, dict[Digest, list[Digest]]]:
    """Return the edges between manifests: to their children, and from subjects to their referrers.

    Every manifest is a key, and so is a subject that is not among them.
    """
    edges: dict[Digest, list[Digest]] = {}
    remaining = iter(manifests)
    while batch := list(islice(remaining, STEPS_PER_SLICE)):
        for manifest in batch:
            edges.setdefault(manifest.digest, []).extend(manifest.children)
            if manifest.subject is not None:
                edges.setdefault(manifest.subject, []).append(manifest.digest)
        yield
    return edges


def reachable(
    roots: Iterable[N], edges: Mapping[N, Sequence[N]], without: Container[N] = frozenset()
) -> Generator[None, None, list[N]]:
    """Return the roots and everything reachable from them by paths that avoid the nodes of `without`.

    A node follows every node that has an edge to it, except around a cycle.
    """
    finished: list[N] = []
    visited: set[N] = set()
    steps = 0
    for root in reversed(list(roots)):
        stack = [(root, False)]
        while stack:
            node, is_finished = stack.pop()
            if is_finished:
                finished.append(node)
            elif node not in visited and node not in without:
                visited.add(node)
                stack.append((node, True))
                stack += [(each, False) for each in edges.get(node, ())]
            steps += 1
            if steps % STEPS_PER_SLICE == 0:
                yield
    return finished[::-1]


def reachable_only_from(
    roots: Iterable[N],
    nodes: Collection[N],
    edges: Mapping[N, Sequence[N]],
    *,
    keep: Collection[N] = frozenset(),
    forced: Collection[N] = frozenset(),
) -> Generator[None, None, list[N]]:
    """Return what can be removed with `roots`: what is reachable from them and from no other node.

    The other nodes are those of `keep`, and those of `nodes` that are not reachable from the roots. Nodes of
    `forced` are removed even if others have edges to them, and preserve nothing themselves. The order is that
    of `reachable`: a removal that is cut short leaves no node that lacks what it has an edge to.
    """
    kept, forced = frozenset(keep), frozenset(forced)
    removable = yield from reachable(roots, edges, kept - forced)
    yield
    others = kept.union(nodes)
    yield
    others -= frozenset(removable)
    yield
    needed = frozenset((yield from reachable(others, edges, forced)))
    yield
    return [node for node in removable if node not in needed]
