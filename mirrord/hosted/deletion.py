"""Deletion of tags, manifests and blobs: by clients through the API, and by the operator.

Deletion removes a link, which takes effect at once. Content is shared between repositories; a sweep removes
it from the disk when no repository links it.

A client deletes exactly what it names (distribution-spec, "Content Management"). The operator's `rm` also
removes what becomes unreachable: with a tag its manifest, if it has no other tag, and what depends on that
alone, such as the images of an index and the signatures that have it as their subject. A manifest that was
untagged before stays. Blobs stay until a sweep after the grace time: a client may be about to push an image
that has them.
"""

from collections.abc import Iterable, Mapping

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import cooperate, run_in_slices
from mirrord.hosted.ports import HostedGraph, HostedLinks
from mirrord.oci.content import HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, Unsupported
from mirrord.oci.graph import edges_of, reachable_only_from
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag
from mirrord.oci.references import ImageReference
from mirrord.repository import Removal, RemovedContent, RemovedTag


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
        manifests, tags = await self._read_graph(name)
        if tag is None and digest is None:
            if not await self._links.delete_repository(name):
                raise NameUnknown("nothing of this repository is stored")
            return _removal(name, tags, manifests)
        removed_tags = [one for one in tags if (one.digest == digest if digest else one.tag == tag)]
        tagged = {one.digest for one in tags if one not in removed_tags}
        if digest is None:
            if not removed_tags:
                raise ManifestUnknown("nothing is stored under this reference")
            dependants = await self._dependants({one.digest for one in removed_tags}, manifests, tagged)
            await self._graph.apply_plan(
                RetentionPlan(repository=name, tags=tuple(removed_tags), manifests=tuple(dependants))
            )
        else:
            if not await self._links.delete(name, digest):
                raise ManifestUnknown("nothing is stored under this reference")
            deleted = manifests.pop(digest, None)
            roots = {one.digest for one in manifests.values() if one.subject == digest}
            roots.update(deleted.children if deleted else ())
            dependants = await self._dependants(roots, manifests, tagged)
            await self._graph.apply_plan(RetentionPlan(repository=name, tags=(), manifests=tuple(dependants)))
        removed = [one.digest for one in dependants if not self._has_manifest(name, one.digest)]
        return _removal(name, removed_tags, removed if digest is None else [digest, *removed])

    async def _dependants(
        self, roots: set[Digest], manifests: Mapping[Digest, HostedManifest], tagged: set[Digest]
    ) -> list[HostedManifest]:
        """Return the manifests reachable from `roots`, themselves included, and from nothing that stays."""
        edges = await run_in_slices(self._clock, edges_of(manifests.values()))
        walk = reachable_only_from(roots, manifests.keys(), edges, keep=tagged)
        return [manifests[one] for one in await run_in_slices(self._clock, walk) if one in manifests]

    async def _read_graph(self, name: RepositoryName) -> tuple[dict[Digest, HostedManifest], list[HostedTag]]:
        manifests: dict[Digest, HostedManifest] = {}
        tags: list[HostedTag] = []
        async for page in cooperate(self._clock, self._graph.manifests(name)):
            manifests.update((manifest.digest, manifest) for manifest in page)
        async for some in cooperate(self._clock, self._graph.tags(name)):
            tags += some
        return manifests, tags

    def _has_manifest(self, name: RepositoryName, digest: Digest) -> bool:
        return self._links.link(name, digest, is_manifest=True) is not None

    def _check(self) -> None:
        if not self._is_allowed:
            raise Unsupported("the configuration of this registry does not allow deletion")


def _removal(name: RepositoryName, tags: Iterable[HostedTag], digests: Iterable[Digest]) -> Removal:
    whole = ImageReference.of(RepositoryKey.hosted(name))
    references = (attrs.evolve(whole, tag=tag.tag) for tag in tags)
    return Removal((*map(RemovedTag, references), *map(RemovedContent, digests)), None)
