"""Pulling ahead: an image is here before anybody asks for it.

It goes the way that a client's pull goes, so all that holds for those holds here; what is begun is
finished even if the operator leaves.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mirrord.admin.results import BlobProgress, ManifestPulled, PullDone, ReferenceResolved
from mirrord.admin.store_ports import Blobs, Manifests, PulledBlob, Sources
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Unsupported
from mirrord.oci.manifests import Descriptor, Manifest, is_distributable
from mirrord.oci.names import HOSTED, RepositoryKey
from mirrord.oci.platforms import Platform, PlatformManifest, platform_manifests, select_platform
from mirrord.oci.references import ImageReference
from mirrord.oci.routes import ManifestRoute, Target

BLOBS_AT_ONCE = 3
_TELL_SECONDS = 0.2


@attrs.define(eq=False)
class ImagePuller:
    """Pulls images for an operator."""

    _sources: Sources
    _manifests: Manifests
    _blobs: Blobs
    _clock: IReactorTime

    async def pull(
        self, reference: ImageReference, platform: Platform | None
    ) -> AsyncGenerator[ReferenceResolved | ManifestPulled | BlobProgress | PullDone, None]:
        """Have an image here, for a platform or (None) for every one that it is offered for.

        Raises:
            RegistryError: Not all of it can be had; what has come is kept.
        """
        if reference.registry == HOSTED:
            raise Unsupported("a hosted repository is pushed to; there is nowhere to pull it from")
        began_at = self._clock.seconds()
        target = Target(
            ManifestRoute(reference.repository, reference.manifest_reference), namespace=reference.registry
        )
        source = self._sources.locate(target, reference.registry)
        top = (await self._manifests.get(source, reference.manifest_reference)).manifest
        yield ReferenceResolved(reference, top.digest, source.upstream, source.repository)
        yield ManifestPulled(top.digest, None)
        images = {top.digest: top}
        waiting = list(_chosen(top, platform))
        while waiting:
            offer = waiting.pop(0)
            manifest = (await self._manifests.get(source, offer.descriptor.digest)).manifest
            yield ManifestPulled(manifest.digest, offer.platform)
            if manifest.digest not in images:
                images[manifest.digest] = manifest
                waiting += _chosen(manifest, platform)
        round_ = _Round(source, self._blobs, self._clock)
        blobs = _blobs_of(images.values())
        async for event in round_.pull(blobs):
            yield event
        size = sum(len(image.body) for image in images.values()) + round_.bytes
        seconds = self._clock.seconds() - began_at
        yield PullDone(len(images), len(blobs), size, round_.fetched_bytes, seconds)


@attrs.define(eq=False)
class _Round:
    """The blobs of one image, a few at a time, and what there is to tell of them.

    Of each blob only the latest is kept to be told: an operator who reads slowly costs no memory.
    """

    _source: RepositoryKey
    _blobs: Blobs
    _clock: IReactorTime
    bytes: int = attrs.field(default=0, init=False)
    fetched_bytes: int = attrs.field(default=0, init=False)
    _untold: dict[Digest, BlobProgress] = attrs.field(factory=dict, init=False)
    _waiting: Deferred[None] | None = attrs.field(default=None, init=False)
    _end: Failure | bool = attrs.field(default=False, init=False)

    async def pull(self, digests: Iterable[Digest]) -> AsyncGenerator[BlobProgress, None]:
        """Have all of these here."""
        todo = iter(digests)
        workers = [Deferred.fromCoroutine(self._work(todo)) for _ in range(BLOBS_AT_ONCE)]
        gatherResults(workers, consumeErrors=True).addBoth(self._ended)
        try:
            while self._untold or self._end is False:
                while self._untold:
                    yield self._untold.pop(next(iter(self._untold)))
                if self._end is False:
                    self._waiting = Deferred()
                    await self._waiting
        finally:
            for worker in workers:
                worker.cancel()
        if isinstance(self._end, Failure):
            self._end.raiseException()

    async def _work(self, todo: Iterator[Digest]) -> None:
        for digest in todo:
            blob = await self._blobs.open(self._source, digest)
            try:
                await self._follow(digest, blob)
            finally:
                blob.close()

    async def _follow(self, digest: Digest, blob: PulledBlob) -> None:
        """Wait for a blob to be whole."""
        size, there = blob.size, blob.readable
        written, told_at = there, self._clock.seconds()
        self._tell(BlobProgress(digest, size, written, written == size))
        while written < size:
            written = await blob.grown(written)
            if written == size or self._clock.seconds() - told_at >= _TELL_SECONDS:
                told_at = self._clock.seconds()
                self._tell(BlobProgress(digest, size, written, written == size))
        self.bytes += size
        self.fetched_bytes += size - there

    def _tell(self, event: BlobProgress) -> None:
        self._untold[event.digest] = event
        self._wake()

    def _ended(self, result: object) -> None:
        match result:
            case Failure(value=FirstError(subFailure=failure)):
                self._end = failure
            case _:
                self._end = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


def _chosen(manifest: Manifest, platform: Platform | None) -> tuple[PlatformManifest, ...]:
    """What of an index is wanted; nothing of an image, which is wanted itself."""
    offered = platform_manifests(manifest)
    if platform is None or not offered:
        return offered
    return (select_platform(offered, platform),)


def _blobs_of(images: Iterable[Manifest]) -> dict[Digest, Descriptor]:
    """The blobs that the manifests of images name; what an index names are manifests."""
    return {
        descriptor.digest: descriptor
        for image in images
        if not platform_manifests(image)
        for descriptor in image.references()
        if is_distributable(descriptor)
    }
