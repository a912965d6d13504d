"""The graph of a repository, and what is reachable in it.

An edge leads from an index to its manifests, from a manifest to its blobs, and from a subject to its
referrers, which cannot be found without it. Tags are the usual roots. Each function is a generator that
yields after each slice of its work, so that a large repository can be walked on the reactor
(`flight.cooperate.run_in_slices`); the result is what the generator returns.
"""

from collections.abc import Collection, Container, Generator, Iterable, Mapping, Sequence
from itertools import islice

from mirrord.oci.content import HostedManifest
from mirrord.oci.digest import Digest

STEPS_PER_SLICE = 256

Edges = Mapping[Digest, Sequence[Digest]]


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
    roots: Iterable[Digest], edges: Edges, without: Container[Digest] = frozenset()
) -> Generator[None, None, list[Digest]]:
    """Return the roots and everything reachable from them by paths that avoid the nodes of `without`.

    A node follows every node that has an edge to it, except around a cycle.
    """
    finished: list[Digest] = []
    visited: set[Digest] = set()
    steps = 0
    stack = [(digest, False) for digest in roots]
    while stack:
        digest, is_finished = stack.pop()
        if is_finished:
            finished.append(digest)
        elif digest not in visited and digest not in without:
            visited.add(digest)
            stack.append((digest, True))
            stack += [(each, False) for each in edges.get(digest, ())]
        steps += 1
        if steps % STEPS_PER_SLICE == 0:
            yield
    return finished[::-1]


def reachable_only_from(
    roots: Iterable[Digest],
    nodes: Collection[Digest],
    edges: Edges,
    *,
    keep: Collection[Digest] = frozenset(),
    forced: Collection[Digest] = frozenset(),
) -> Generator[None, None, list[Digest]]:
    """Return what can be removed with `roots`: what is reachable from them and from no other node.

    The other nodes are those of `keep`, and those of `nodes` that are not reachable from the roots. Nodes of
    `forced` are removed even if others have edges to them, and preserve nothing themselves. The order is that
    of `reachable`: a removal that is cut short leaves no node that lacks what it has an edge to.
    """
    kept, forced = frozenset(keep), frozenset(forced)
    removable = yield from reachable(roots, edges, kept - forced)
    others = kept.union(nodes) - frozenset(removable)
    needed = frozenset((yield from reachable(others, edges, forced)))
    yield
    return [digest for digest in removable if digest not in needed]
