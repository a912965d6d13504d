"""Pulling ahead: store an image before a client requests it.

It uses the same interface as a client's pull and has the same guarantees. Its downloads give way to those of
clients; one that has begun continues when the operator disconnects, until another needs its slot or its room.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mirrord.admin.blob_download import download_blob
from mirrord.admin.results import BlobProgress, ManifestPulled, PullDone, ReferenceResolved
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Unsupported
from mirrord.oci.manifests import Descriptor, Manifest, is_distributable
from mirrord.oci.platforms import Platform, PlatformManifest, platform_manifests, select_platform
from mirrord.oci.references import ImageReference
from mirrord.repository import Repository
from mirrord.routing import Router

CONCURRENT_BLOBS = 3
_REPORT_SECONDS = 0.2


@attrs.frozen(eq=False)
class ImagePuller:
    """Pulls images for an operator."""

    _router: Router
    _clock: IReactorTime

    async def pull(
        self, reference: ImageReference, platform: Platform | None
    ) -> AsyncGenerator[ReferenceResolved | ManifestPulled | BlobProgress | PullDone, None]:
        """Store an image, for one platform or (None) for all platforms in its index.

        Raises:
            RegistryError: Not all of it could be pulled; the rest is kept.
        """
        repository = self._router.locate_image(reference)
        if repository.writer is not None:
            raise Unsupported("a hosted repository has no upstream to pull from; images are pushed to it")
        started_at = self._clock.seconds()
        top = (await repository.get_manifest(reference.manifest_reference)).manifest
        yield ReferenceResolved(
            reference=reference,
            digest=top.digest,
            upstream=repository.key.upstream,
            repository=repository.key.repository,
        )
        yield ManifestPulled(top.digest, None)
        images = {top.digest: top}
        waiting = list(_selected(top, platform))
        while waiting:
            offer = waiting.pop(0)
            manifest = (await repository.get_manifest(offer.descriptor.digest)).manifest
            yield ManifestPulled(manifest.digest, offer.platform)
            if manifest.digest not in images:
                images[manifest.digest] = manifest
                waiting += _selected(manifest, platform)
        blob_pull = _BlobPull(repository, self._clock)
        blobs = _blobs_of(images.values())
        async for event in blob_pull.run(blobs):
            yield event
        yield PullDone(
            manifests=len(images),
            blobs=len(blobs),
            bytes=sum(len(image.body) for image in images.values()) + blob_pull.bytes,
            fetched_bytes=blob_pull.fetched_bytes,
            seconds=self._clock.seconds() - started_at,
        )


@attrs.define(eq=False)
class _BlobPull:
    """The blobs of one image, a few at a time, and the progress to report.

    Only the latest progress of each blob is kept: an operator who reads slowly costs no memory.
    """

    _repository: Repository
    _clock: IReactorTime
    bytes: int = attrs.field(default=0, init=False)
    fetched_bytes: int = attrs.field(default=0, init=False)
    _unreported: dict[Digest, BlobProgress] = attrs.field(factory=dict, init=False)
    _waiting: Deferred[None] | None = attrs.field(default=None, init=False)
    _result: Failure | bool = attrs.field(default=False, init=False)

    async def run(self, digests: Iterable[Digest]) -> AsyncGenerator[BlobProgress, None]:
        """Store all of these blobs."""
        remaining = iter(digests)
        workers = [Deferred.fromCoroutine(self._work(remaining)) for _ in range(CONCURRENT_BLOBS)]
        gatherResults(workers, consumeErrors=True).addBoth(self._finished)
        try:
            while self._unreported or self._result is False:
                while self._unreported:
                    yield self._unreported.pop(next(iter(self._unreported)))
                if self._result is False:
                    self._waiting = Deferred()
                    await self._waiting
        finally:
            for worker in workers:
                worker.cancel()
        if isinstance(self._result, Failure):
            self._result.raiseException()

    async def _work(self, remaining: Iterator[Digest]) -> None:
        for digest in remaining:
            await self._download(digest)

    async def _download(self, digest: Digest) -> None:
        """Store a blob, and report its progress now and then."""
        reported_at: float | None = None

        def progressed(size: int, written: int) -> None:
            nonlocal reported_at
            now = self._clock.seconds()
            if reported_at is None or written == size or now - reported_at >= _REPORT_SECONDS:
                reported_at = now
                self._report(digest, size, written)

        blob = await download_blob(self._repository, digest, self._clock, progressed)
        self.bytes += blob.size
        self.fetched_bytes += blob.fetched_bytes

    def _report(self, digest: Digest, size: int, written: int) -> None:
        self._unreported[digest] = BlobProgress(
            digest=digest, size=size, written=written, is_held=written == size
        )
        self._wake()

    def _finished(self, result: object) -> None:
        match result:
            case Failure(value=FirstError(subFailure=failure)):
                self._result = failure
            case _:
                self._result = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


def _selected(manifest: Manifest, platform: Platform | None) -> tuple[PlatformManifest, ...]:
    """Return the manifests of an index that the platform selects; none of an image."""
    offered = platform_manifests(manifest)
    if platform is None or not offered:
        return offered
    return (select_platform(offered, platform),)


def _blobs_of(images: Iterable[Manifest]) -> dict[Digest, Descriptor]:
    """Return the blobs that images reference and registries have; what an index references are manifests."""
    return {
        descriptor.digest: descriptor
        for image in images
        if not platform_manifests(image)
        for descriptor in image.references()
        if is_distributable(descriptor)
    }
