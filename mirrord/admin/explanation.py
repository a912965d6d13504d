"""Inquiry: why a reference is answered as it is, and by what. Asks nobody but ourselves."""

from collections.abc import Callable

import attrs

from mirrord.admin.hosted_explanation import HostedExplainer
from mirrord.admin.images import images_of
from mirrord.admin.results import BlobState, Explanation, ManifestState, Permissions, TagState
from mirrord.admin.store_ports import Condition, Downloads, Inventory, Sources
from mirrord.last_clients import LastClients
from mirrord.oci.content import ContentKind, TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import HOSTED, RepositoryKey, Tag
from mirrord.oci.references import ImageReference
from mirrord.oci.routes import ManifestRoute, Target


@attrs.define(eq=False)
class Explainer:
    """Explains references. `now` is the wall clock; `tag_ttl` is an upstream's, in seconds.

    `permissions` are those of a source, None where nobody is asked who they are.
    """

    _sources: Sources
    _inventory: Inventory
    _hosted: HostedExplainer
    _permissions: Callable[[RepositoryKey], Permissions | None]
    _downloads: Downloads
    _condition: Condition
    _visitors: LastClients
    _tag_ttl: Callable[[str], float]
    _now: Callable[[], float]

    async def explain(self, reference: ImageReference) -> Explanation:
        """All that is known of a reference.

        Raises:
            OSError: The disk failed.
        """
        if reference.registry == HOSTED:
            explanation = await self._hosted.explain(reference)
        else:
            explanation = await self._explain(reference)
        source = RepositoryKey(explanation.upstream, explanation.repository)
        return attrs.evolve(explanation, may=self._permissions(source))

    async def _explain(self, reference: ImageReference) -> Explanation:
        source, why_not = self._locate(reference)
        tag, digest, seen = self._name(source, reference)
        manifest = None if digest is None else self._manifest(source, digest, seen)
        blobs: list[BlobState] = []
        if manifest is not None and manifest.is_held:
            blobs = await self._blobs(manifest.digest)
        elif digest is not None and manifest is None:
            blobs = self._blob(source, digest)
        visit = self._visitors.last(
            source, reference.manifest_reference, *([] if digest is None else [digest])
        )
        is_here = bool(manifest and manifest.is_held) or (manifest is None and bool(blobs))
        if why_not is None and not (is_here and all(blob.state == "held" for blob in blobs)):
            why_not = self._condition(source.upstream)
        return Explanation(
            reference,
            source.upstream,
            source.repository,
            bool(tag or manifest or blobs),
            tag,
            manifest,
            tuple(blobs),
            None if visit is None else visit.client,
            None if visit is None else visit.requested_at,
            why_not,
        )

    def _locate(self, reference: ImageReference) -> tuple[RepositoryKey, str | None]:
        """Where it would come from, and why it would not."""
        target = Target(
            ManifestRoute(reference.repository, reference.manifest_reference), namespace=reference.registry
        )
        try:
            return self._sources.locate(target, reference.registry), None
        except RegistryError as error:
            return RepositoryKey(reference.registry, reference.repository), error.message

    def _name(
        self, source: RepositoryKey, reference: ImageReference
    ) -> tuple[TagState | None, Digest | None, TagObservation | None]:
        """What the reference names: the tag, if it is one, the digest, and when that was seen."""
        if not isinstance(reference.manifest_reference, Tag):
            return None, reference.manifest_reference, None
        record = self._inventory.tag(source, reference.manifest_reference)
        newest = None if record is None else record.newest
        if record is None or newest is None:
            return None, None, None
        digest = newest.descriptor.digest
        fresh_until = newest.observed_at + self._tag_ttl(source.upstream)
        is_fresh = self._now() < fresh_until
        state = TagState(
            digest,
            newest.observed_at,
            fresh_until,
            "pending" if newest is not record.cached else "fresh" if is_fresh else "stale",
        )
        return state, digest, newest

    def _manifest(
        self, source: RepositoryKey, digest: Digest, seen: TagObservation | None
    ) -> ManifestState | None:
        """The manifest of that digest; None where it is not known to be one."""
        size, link = (
            self._inventory.size_of(ContentKind.MANIFEST, digest),
            self._inventory.link(source, digest),
        )
        if size is None and seen is None:
            return None
        said = link or (None if seen is None else seen.descriptor)
        if said is None:
            return None
        return ManifestState(digest, said.media_type, said.size, size is not None and link is not None)

    def _blob(self, source: RepositoryKey, digest: Digest) -> list[BlobState]:
        """The blob of that digest, if the repository may read one."""
        link = self._inventory.link(source, digest)
        return [] if link is None else [self._state(link)]

    async def _blobs(self, digest: Digest) -> list[BlobState]:
        """The blobs of an image, or of those images of an index that are here."""
        states: dict[Digest, BlobState] = {}
        async for image in images_of(self._inventory, digest):
            states.update((named.digest, self._state(named)) for named in image.references())
        return list(states.values())

    def _state(self, descriptor: Descriptor) -> BlobState:
        digest, downloads = descriptor.digest, self._downloads()
        size, left = self._inventory.size_of(ContentKind.BLOB, digest), self._inventory.partial_size(digest)
        if size is not None:
            return BlobState(digest, size, "held", size)
        if digest in downloads:
            return BlobState(digest, descriptor.size, "downloading", downloads[digest])
        if left is not None:
            return BlobState(digest, descriptor.size, "partial", left)
        return BlobState(digest, descriptor.size, "absent", 0)
