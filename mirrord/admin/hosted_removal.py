"""Removal from hosted repositories, where nothing can be fetched again.

With a tag goes its manifest, if it has no other, and what hangs on that alone: the images of an index, and
what has it as its subject, signatures for instance. An untagged manifest that was there before stays, for
nobody has named it. Blobs go with a sweep, after the grace time: a client may be about to push an image
that has them.
"""

from collections.abc import Iterable, Mapping

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.admin.hosted_ports import HostedIndex, HostedShelf
from mirrord.admin.results import Removal, RemovedContent, RemovedTag
from mirrord.flight.cooperate import cooperate
from mirrord.oci.content import HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.names import HOSTED, RepositoryName
from mirrord.oci.references import ImageReference


@attrs.define(eq=False)
class HostedRemover:
    """Takes things out of hosted repositories, whatever clients may do."""

    _index: HostedIndex
    _shelf: HostedShelf
    _clock: IReactorTime

    async def remove(self, reference: ImageReference) -> Removal:
        """Take out what is named: a digest, else a tag, else the whole repository.

        Raises:
            NameUnknown, ManifestUnknown: Nothing of it is held.
            OSError: The disk refused.
        """
        repository, digest = reference.repository, reference.digest
        manifests, tags = await self._look(repository)
        if reference.tag is None and digest is None:
            if not await self._index.delete_repository(repository):
                raise NameUnknown("nothing of this repository is held")
            return _removal(repository, tags, manifests)
        going = [tag for tag in tags if (tag.digest == digest if digest else tag.tag == reference.tag)]
        staying = {tag.digest for tag in tags if tag not in going}
        if digest is None:
            if not going:
                raise ManifestUnknown("nothing is held under this reference")
            hanging = _hanging_on({tag.digest for tag in going}, manifests, staying)
            await self._shelf.apply_plan(
                RetentionPlan(repository=repository, tags=tuple(going), manifests=tuple(hanging))
            )
        else:
            if not await self._index.delete(repository, digest):
                raise ManifestUnknown("nothing is held under this reference")
            gone = manifests.pop(digest, None)
            about = {one.digest for one in manifests.values() if one.subject == digest}
            hanging = _hanging_on(about.union(gone.children if gone else ()), manifests, staying)
            await self._shelf.apply_plan(
                RetentionPlan(repository=repository, tags=(), manifests=tuple(hanging))
            )
        left = [one.digest for one in hanging if not self._has(repository, one.digest)]
        return _removal(repository, going, left if digest is None else [digest, *left])

    async def _look(self, repository: RepositoryName) -> tuple[dict[Digest, HostedManifest], list[HostedTag]]:
        manifests: dict[Digest, HostedManifest] = {}
        tags: list[HostedTag] = []
        async for page in cooperate(self._clock, self._shelf.manifests(repository)):
            manifests.update((manifest.digest, manifest) for manifest in page)
        async for some in cooperate(self._clock, self._shelf.tags(repository)):
            tags += some
        return manifests, tags

    def _has(self, repository: RepositoryName, digest: Digest) -> bool:
        return self._index.link(repository, digest, is_manifest=True) is not None


def _removal(repository: RepositoryName, tags: Iterable[HostedTag], digests: Iterable[Digest]) -> Removal:
    references = (ImageReference(registry=HOSTED, repository=repository, tag=tag.tag) for tag in tags)
    return Removal((*map(RemovedTag, references), *map(RemovedContent, digests)), None)


def _hanging_on(
    roots: set[Digest], manifests: Mapping[Digest, HostedManifest], staying: set[Digest]
) -> list[HostedManifest]:
    """What goes with `roots`, themselves too: what can be reached from them and from nothing that stays."""
    hanging: dict[Digest, list[Digest]] = {}
    for one in manifests.values():
        hanging.setdefault(one.digest, []).extend(one.children)
        if one.subject is not None:
            hanging.setdefault(one.subject, []).append(one.digest)
    doomed = _reach(roots, hanging)
    saved = _reach(manifests.keys() - doomed.keys() | staying, hanging)
    return [manifests[one] for one in doomed if one in manifests and one not in saved]


def _reach(roots: Iterable[Digest], hanging: Mapping[Digest, list[Digest]]) -> dict[Digest, None]:
    """The roots, and all that hangs on them."""
    found: dict[Digest, None] = {}
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found[digest] = None
            waiting += hanging.get(digest, ())
    return found
