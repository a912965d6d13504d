"""Deletion of tags, manifests and blobs: by clients through the API, and by the operator.

Deletion removes a link, which takes effect at once. Content is shared between repositories; a sweep removes
it from the disk when no repository links it.

A client deletes exactly what it names (distribution-spec, "Content Management"). The operator's `rm` also
removes what becomes unreachable: with a tag its manifest, if it has no other tag, and what depends on that
alone, such as the images of an index and the signatures that have it as their subject. A manifest that was
untagged before stays. Blobs stay until a sweep after the grace time: a client may be about to push an image
that has them.

A repository may have 100,000 tags and manifests. Of those that stay only the digests are in memory, as text
(`oci/graph.py` explains that); the manifests that are removed are read again.
"""

from collections.abc import Iterable, Sequence

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import cooperate, run_in_slices
from mirrord.hosted.ports import HostedGraph, HostedLinks
from mirrord.oci.content import HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, Unsupported
from mirrord.oci.graph import reachable_only_from
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag
from mirrord.repository import Removal


@attrs.frozen(eq=False, kw_only=True)
class HostedDeletion:
    """Deletes from hosted repositories; `is_allowed` is false if clients may not."""

    _links: HostedLinks
    _graph: HostedGraph
    _clock: IReactorTime
    _is_allowed: bool = True

    async def delete_manifest(self, name: RepositoryName, reference: Reference) -> None:
        """Delete a tag; or a manifest, with all its tags.

        Raises:
            ManifestUnknown: There is none.
            Unsupported: The configuration does not allow deletion.
        """
        self._check()
        if isinstance(reference, Digest):
            is_deleted = await self._links.delete(name, reference, is_manifest=True)
        else:
            is_deleted = await self._links.delete_tag(name, reference)
        if not is_deleted:
            raise ManifestUnknown("there is no such manifest in this repository")

    async def delete_blob(self, name: RepositoryName, digest: Digest) -> None:
        """Delete a blob.

        Raises:
            BlobUnknown: There is none.
            Unsupported: The configuration does not allow deletion.
        """
        self._check()
        if not await self._links.delete(name, digest, is_manifest=False):
            raise BlobUnknown("there is no such blob in this repository")

    async def remove(self, name: RepositoryName, tag: Tag | None, digest: Digest | None) -> Removal:
        """Remove a digest, else a tag, else the whole repository, with what depends on it alone.

        Raises:
            NameUnknown, ManifestUnknown: Nothing of it is stored.
            OSError: The disk failed.
        """
        if tag is None and digest is None:
            return await self._remove_all(name)
        removed_tags, tagged = await self._split_tags(name, tag, digest)
        manifests, edges = await self._edges(name)
        if digest is None:
            if not removed_tags:
                raise ManifestUnknown("nothing is stored under this reference")
            roots = {str(one.digest) for one in removed_tags}
            planned_tags = tuple(removed_tags)
        else:
            if not await self._links.delete(name, digest):
                raise ManifestUnknown("nothing is stored under this reference")
            manifests.discard(str(digest))
            roots, planned_tags = set(edges.pop(str(digest), ())), ()
        walk = reachable_only_from(roots, manifests, edges, keep=tagged)
        order = [one for one in await run_in_slices(self._clock, walk) if one in manifests]
        dependants = await self._manifests(name, order)
        await self._graph.apply_plan(
            RetentionPlan(repository=name, tags=planned_tags, manifests=tuple(dependants))
        )
        removed = [str(one.digest) for one in dependants if not self._has_manifest(name, one.digest)]
        return _removal(
            name,
            [str(one.tag) for one in removed_tags],
            removed if digest is None else [str(digest), *removed],
        )

    async def _remove_all(self, name: RepositoryName) -> Removal:
        tags, digests = list[str](), list[str]()
        async for some_tags in cooperate(self._clock, self._graph.tags(name)):
            tags += (str(one.tag) for one in some_tags)
        async for manifests in cooperate(self._clock, self._graph.manifests(name)):
            digests += (str(one.digest) for one in manifests)
        if not await self._links.delete_repository(name):
            raise NameUnknown("nothing of this repository is stored")
        return _removal(name, tags, digests)

    async def _split_tags(
        self, name: RepositoryName, tag: Tag | None, digest: Digest | None
    ) -> tuple[list[HostedTag], set[str]]:
        """Return the tags that are removed, those of a digest or one, and the digests of the others."""
        removed, tagged = list[HostedTag](), set[str]()
        async for page in cooperate(self._clock, self._graph.tags(name)):
            for one in page:
                if one.digest == digest if digest else one.tag == tag:
                    removed.append(one)
                else:
                    tagged.add(str(one.digest))
        return removed, tagged

    async def _edges(self, name: RepositoryName) -> tuple[set[str], dict[str, list[str]]]:
        """Return the manifests of a repository, and their edges: to their children and their referrers."""
        manifests, edges = set[str](), dict[str, list[str]]()
        async for page in cooperate(self._clock, self._graph.manifests(name)):
            for one in page:
                digest = str(one.digest)
                manifests.add(digest)
                if one.children:
                    edges.setdefault(digest, []).extend(map(str, one.children))
                if one.subject is not None:
                    edges.setdefault(str(one.subject), []).append(digest)
        return manifests, edges

    async def _manifests(self, name: RepositoryName, order: Sequence[str]) -> list[HostedManifest]:
        """Return these manifests in this order, as far as they are still there."""
        wanted, found = frozenset(order), dict[str, HostedManifest]()
        async for page in cooperate(self._clock, self._graph.manifests(name) if wanted else ()):
            found.update((digest, one) for one in page if (digest := str(one.digest)) in wanted)
        return [found[one] for one in order if one in found]

    def _has_manifest(self, name: RepositoryName, digest: Digest) -> bool:
        return self._links.link(name, digest, is_manifest=True) is not None

    def _check(self) -> None:
        if not self._is_allowed:
            raise Unsupported("the configuration of this registry does not allow deletion")


def _removal(name: RepositoryName, tags: Iterable[str], digests: Iterable[str]) -> Removal:
    return Removal(RepositoryKey.hosted(name), tuple(tags), tuple(digests), None)
