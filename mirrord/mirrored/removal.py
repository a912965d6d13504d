"""Removal of a tag, of content or of a whole repository from the mirror, by the operator.

A repository is a graph of links: tags name manifests, indexes reference manifests, manifests reference blobs.
Everything is removed that is reachable from the given reference and from nothing else in its repository. It
is removed from the disk unless another repository links it too, but not while a client reads it.

A repository may have 100,000 tags and links. They are in memory as text (`oci/graph.py` explains that), and
are written to the index, looked up and removed a portion at a time.
"""

from collections.abc import AsyncIterator, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.flight.cooperate import cooperate, run_in_slices, yield_to_reactor
from mirrord.mirrored.ports import CachedContent
from mirrord.oci.content import CachedTag
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.graph import reachable_only_from
from mirrord.oci.names import RepositoryKey, Tag
from mirrord.repository import Removal

_STEPS_A_SLICE = 256

_STEPS_A_FLUSH = 4096
"""The deletions that are written to the index at a time: all at once take long to prepare on the reactor."""


@attrs.frozen(eq=False)
class MirroredRemoval:
    """Removes from mirrored repositories, whether or not their upstream is still configured."""

    _content: CachedContent
    _clock: IReactorTime
    _log = Logger()

    async def remove(self, key: RepositoryKey, tag: Tag | None, digest: Digest | None) -> Removal:
        """Remove a digest, else a tag, else the whole repository.

        Raises:
            NameUnknown, ManifestUnknown: Nothing of it is stored.
            OSError: The disk failed.
        """
        await self._content.flush()
        if tag is None and digest is None:
            tags, digests = await self._all(key)
        else:
            tags, digests = await self._named(key, tag, digest)
        for number, removed_tag in enumerate(tags, 1):
            self._content.delete_tag(key, Tag(removed_tag))
            await self._write_after_slice(number)
        for number, removed_digest in enumerate(digests, 1):
            self._content.unlink(key, Digest.parse(removed_digest))
            await self._write_after_slice(number)
        await self._content.flush()
        freed = 0
        for start in range(0, len(digests), _STEPS_A_SLICE):
            freed += await self._free([Digest.parse(one) for one in digests[start : start + _STEPS_A_SLICE]])
            await yield_to_reactor(self._clock)
        return Removal(key, tuple(tags), tuple(digests), freed)

    async def _all(self, key: RepositoryKey) -> tuple[list[str], list[str]]:
        tags = [str(cached.tag) async for cached in self._tags(key)]
        digests = [str(digest) async for digest, _ in self._links(key)]
        if not tags and not digests:
            raise NameUnknown("nothing of this repository is stored")
        return tags, digests

    async def _named(
        self, key: RepositoryKey, tag: Tag | None, digest: Digest | None
    ) -> tuple[list[str], list[str]]:
        """Return a tag and what only it reaches, or a digest, with the tags that name it."""
        forced: set[str] = set()
        if digest is not None and self._content.link(key, digest) is not None:
            forced.add(str(digest))
        removed: list[str] = []
        roots, staying = set(forced), set[str]()
        async for cached in self._tags(key):
            digests = _digests_of(cached)
            if cached.tag == tag if digest is None else digests & forced:
                removed.append(str(cached.tag))
                roots |= digests
            else:
                staying |= digests
        if not removed and not forced:
            raise ManifestUnknown("nothing is stored under this reference")
        return removed, await self._dependants(key, roots, staying=staying, forced=forced)

    async def _dependants(
        self, key: RepositoryKey, roots: set[str], *, staying: set[str], forced: set[str]
    ) -> list[str]:
        """Return the linked digests that are reachable from `roots`, and from nothing else in the repository.

        Digests of `forced` are removed in any case, and preserve nothing themselves. All are text, as
        `oci/graph.py` explains.
        """
        linked, manifests, kept = set[str](), list[str](), set[str]()
        async for digest, is_manifest in self._links(key):
            name = str(digest)
            linked.add(name)
            if is_manifest:
                manifests.append(name)
            if name in staying:
                kept.add(name)
        edges: dict[str, tuple[str, ...]] = {}
        for number, name in enumerate(linked, 1):
            manifest = await self._content.manifest(Digest.parse(name))
            if manifest is not None:
                references = (str(each.digest) for each in manifest.references())
                edges[name] = tuple(each for each in references if each in linked)
            await self._yield_after_slice(number)
        walk = reachable_only_from(roots & linked, manifests, edges, keep=kept, forced=forced)
        return await run_in_slices(self._clock, walk)

    async def _free(self, digests: Sequence[Digest]) -> int:
        """Remove from the disk what no repository links; return the bytes freed now."""
        linked: set[Digest] = set()
        async for links in cooperate(self._clock, self._content.links_to(digests)):
            linked.update(digest for _, digest in links)
        unlinked = [digest for digest in digests if digest not in linked]
        for digest in filter(self._content.is_pinned, unlinked):
            Deferred.fromCoroutine(self._free_when_closed(digest)).addErrback(self._log_kept, digest)
        return sum(entry.size for entry in await self._content.remove(unlinked))

    async def _free_when_closed(self, digest: Digest) -> None:
        """Remove content when its last reader closes it, unless a repository links it by then."""
        await self._content.when_unpinned(digest)
        async for links in cooperate(self._clock, self._content.links_to([digest])):
            if links:
                return
        await self._content.remove([digest])

    def _log_kept(self, failure: object, digest: Digest) -> None:
        self._log.warn(
            "cannot delete {digest} yet; the next sweep will: {failure}", digest=str(digest), failure=failure
        )

    async def _write_after_slice(self, number: int) -> None:
        """Yield to the reactor after so many deletions, and write them to the index after more."""
        if number % _STEPS_A_FLUSH == 0:
            await self._content.flush()
        await self._yield_after_slice(number)

    async def _yield_after_slice(self, number: int) -> None:
        """Yield to the reactor after so many steps."""
        if number % _STEPS_A_SLICE == 0:
            await yield_to_reactor(self._clock)

    async def _tags(self, key: RepositoryKey) -> AsyncIterator[CachedTag]:
        async for page in cooperate(self._clock, self._content.tags(key)):
            for cached in page:
                yield cached

    async def _links(self, key: RepositoryKey) -> AsyncIterator[tuple[Digest, bool]]:
        async for page in cooperate(self._clock, self._content.content_links(key)):
            for link in page:
                yield link.descriptor.digest, link.is_manifest


def _digests_of(cached: CachedTag) -> set[str]:
    """Return what a tag names, cached or pending, as text."""
    observations = cached.record.cached, cached.record.pending
    return {str(observation.descriptor.digest) for observation in observations if observation is not None}
