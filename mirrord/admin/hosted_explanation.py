"""Inquiry into hosted repositories: what was pushed, and whether it is all there."""

from collections.abc import Callable

import attrs

from mirrord.admin.hosted_ports import HostedIndex
from mirrord.admin.images import images_of
from mirrord.admin.results import BlobState, Explanation, ManifestState, TagState
from mirrord.admin.store_ports import Inventory
from mirrord.last_clients import LastClients
from mirrord.oci.content import ContentKind, HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName, Tag
from mirrord.oci.references import ImageReference


@attrs.define(eq=False)
class HostedExplainer:
    """Explains references to hosted repositories; `is_hosted` is what the configuration says of a name."""

    _index: HostedIndex
    _inventory: Inventory
    _visitors: LastClients
    _is_hosted: Callable[[RepositoryName], bool]

    async def explain(self, reference: ImageReference) -> Explanation:
        """All that is known of a reference.

        Raises:
            OSError: The disk failed.
        """
        repository, named = reference.repository, reference.manifest_reference
        link = self._find(repository, named)
        manifest = tag = None
        blobs: list[BlobState] = []
        if link is not None and link.is_manifest:
            manifest = self._manifest(link)
            blobs = await self._blobs(repository, manifest.digest)
            if isinstance(named, Tag):
                tag = TagState(manifest.digest, link.linked_at, None, "hosted")
        elif link is not None:
            blobs = [self._blob(repository, link.descriptor)]
        is_lost = manifest is not None and not manifest.is_held
        digests = [] if link is None else [link.descriptor.digest]
        visit = self._visitors.last(RepositoryKey(HOSTED, repository), named, *digests)
        return Explanation(
            reference,
            HOSTED,
            repository,
            link is not None,
            tag,
            manifest,
            tuple(blobs),
            None if visit is None else visit.client,
            None if visit is None else visit.requested_at,
            self._why_not(repository, is_whole=not is_lost and all(one.state == "held" for one in blobs)),
        )

    def _find(self, repository: RepositoryName, named: Tag | Digest) -> HostedLink | None:
        if isinstance(named, Digest):
            return self._index.link(repository, named)
        tagged = self._index.tag(repository, named)
        return None if tagged is None else self._index.link(repository, tagged.digest, is_manifest=True)

    def _why_not(self, repository: RepositoryName, *, is_whole: bool) -> str | None:
        if not self._is_hosted(repository):
            return "the configuration does not host this repository any more"
        return None if is_whole else "some of it is not on the disk any more; push it again"

    def _manifest(self, link: HostedLink) -> ManifestState:
        of = link.descriptor
        is_held = self._inventory.size_of(ContentKind.MANIFEST, of.digest) is not None
        return ManifestState(of.digest, of.media_type, of.size, is_held)

    async def _blobs(self, repository: RepositoryName, digest: Digest) -> list[BlobState]:
        states: dict[Digest, BlobState] = {}
        async for image in images_of(self._inventory, digest):
            states.update((named.digest, self._blob(repository, named)) for named in image.references())
        return list(states.values())

    def _blob(self, repository: RepositoryName, descriptor: Descriptor) -> BlobState:
        digest = descriptor.digest
        size = self._inventory.size_of(ContentKind.BLOB, digest)
        if size is None or self._index.link(repository, digest, is_manifest=False) is None:
            return BlobState(digest, descriptor.size, "absent", 0)
        return BlobState(digest, size, "held", size)
