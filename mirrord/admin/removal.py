"""Removal: taking a tag, some content or a whole repository out of the mirror.

A repository is a web of links: tags name manifests, indexes name manifests, manifests name blobs. What
is removed is what hangs on the thing named and on nothing else in its repository; it leaves the disk
if no other repository is linked to it. What somebody is being served stays until they have it.
"""

from collections.abc import AsyncIterator, Collection, Iterable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.admin.hosted_removal import HostedRemover
from mirrord.admin.results import Removal, RemovedContent, RemovedTag
from mirrord.admin.store_ports import Shelves
from mirrord.flight.cooperate import cooperate, yield_to_reactor
from mirrord.oci.content import CachedTag
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.names import HOSTED, RepositoryKey, Tag
from mirrord.oci.references import ImageReference

_SLICE = 256


@attrs.define(eq=False)
class Remover:
    """Takes things out of repositories, whether or not their upstream is still configured."""

    _shelves: Shelves
    _hosted: HostedRemover
    _clock: IReactorTime
    _log = Logger()

    async def remove(self, reference: ImageReference) -> Removal:
        """Take out what is named: a digest, else a tag, else the whole repository.

        Raises:
            NameUnknown, ManifestUnknown: Nothing of it is held.
            OSError: The disk refused.
        """
        if reference.registry == HOSTED:
            return await self._hosted.remove(reference)
        source = RepositoryKey(reference.registry, reference.repository)
        await self._shelves.flush()
        if reference.tag is None and reference.digest is None:
            tags, digests = await self._all(source)
        else:
            tags, digests = await self._named(source, reference)
        for tag in tags:
            self._shelves.delete_tag(source, tag)
        for digest in digests:
            self._shelves.unlink(source, digest)
        await self._shelves.flush()
        freed = await self._remove(digests)
        whole = ImageReference.of(source)
        forgotten = (RemovedTag(attrs.evolve(whole, tag=tag)) for tag in tags)
        return Removal((*forgotten, *map(RemovedContent, digests)), freed)

    async def _all(self, source: RepositoryKey) -> tuple[list[Tag], list[Digest]]:
        tags = [known.tag async for known in self._tags(source)]
        digests = [digest async for digest, _ in self._links(source)]
        if not tags and not digests:
            raise NameUnknown("nothing of this repository is held")
        return tags, list(dict.fromkeys(digests))

    async def _named(
        self, source: RepositoryKey, reference: ImageReference
    ) -> tuple[list[Tag], list[Digest]]:
        """A tag and what hangs on it, or a digest, with the tags that name it."""
        tags = {known.tag: _heads(known) async for known in self._tags(source)}
        forced: set[Digest] = set()
        if reference.digest is not None:
            forced = {reference.digest} if self._shelves.link(source, reference.digest) else set()
            going = {tag for tag, heads in tags.items() if heads & forced}
        else:
            going = {tag for tag in tags if tag == reference.tag}
        if not going and not forced:
            raise ManifestUnknown("nothing is held under this reference")
        roots = forced.union(*(tags[tag] for tag in going))
        staying = set[Digest]().union(*(heads for tag, heads in tags.items() if tag not in going))
        return sorted(going), await self._hanging_on(source, roots, staying, forced)

    async def _hanging_on(
        self, source: RepositoryKey, roots: set[Digest], staying: set[Digest], forced: set[Digest]
    ) -> list[Digest]:
        """What is linked and can be reached from `roots`, but not from what else the repository has.

        What is `forced` goes even so, and holds nothing any more.
        """
        linked = {digest: is_manifest async for digest, is_manifest in self._links(source)}
        doomed = await self._reachable(roots, linked)
        others = {digest for digest, is_manifest in linked.items() if is_manifest and digest not in doomed}
        saved = await self._reachable(staying | others, linked.keys() - forced)
        return [digest for digest in doomed if digest not in saved]

    async def _reachable(self, roots: Iterable[Digest], linked: Collection[Digest]) -> dict[Digest, None]:
        """Those of `linked` that `roots` are, or name, or that are named by what they name."""
        found: dict[Digest, None] = {}
        waiting = [digest for digest in roots if digest in linked]
        while waiting:
            digest = waiting.pop()
            if digest in found:
                continue
            found[digest] = None
            if len(found) % _SLICE == 0:
                await yield_to_reactor(self._clock)
            manifest = await self._shelves.manifest(digest)
            if manifest is not None:
                waiting += [named.digest for named in manifest.references() if named.digest in linked]
        return found

    async def _remove(self, digests: Collection[Digest]) -> int:
        """Take from the disk what nobody is linked to any more; the bytes that are free now."""
        needed: set[Digest] = set()
        async for links in cooperate(self._clock, self._shelves.links_to(digests)):
            needed.update(digest for _, digest in links)
        unneeded = [digest for digest in digests if digest not in needed]
        for digest in filter(self._shelves.is_pinned, unneeded):
            Deferred.fromCoroutine(self._remove_later(digest)).addErrback(self._log_kept, digest)
        return sum(entry.size for entry in await self._shelves.remove(unneeded))

    async def _remove_later(self, digest: Digest) -> None:
        """Take away what is being read, when it is no longer, if nobody is linked to it by then."""
        await self._shelves.when_unpinned(digest)
        async for links in cooperate(self._clock, self._shelves.links_to([digest])):
            if links:
                return
        await self._shelves.remove([digest])

    def _log_kept(self, failure: object, digest: Digest) -> None:
        self._log.warn("{digest} stays until a sweep: {failure}", digest=str(digest), failure=failure)

    async def _tags(self, source: RepositoryKey) -> AsyncIterator[CachedTag]:
        async for page in cooperate(self._clock, self._shelves.tags(source)):
            for known in page:
                yield known

    async def _links(self, source: RepositoryKey) -> AsyncIterator[tuple[Digest, bool]]:
        async for page in cooperate(self._clock, self._shelves.content_links(source)):
            for holding in page:
                yield holding.descriptor.digest, holding.is_manifest


def _heads(known: CachedTag) -> set[Digest]:
    """What a tag names, held or only seen."""
    sightings = known.record.cached, known.record.pending
    return {sighting.descriptor.digest for sighting in sightings if sighting is not None}
