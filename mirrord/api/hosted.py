"""Hosted repositories behind the resources that also answer for upstreams: where a link is, there is a hit.

Permission is the index's to give, bytes come from the same store as mirrored ones. A link whose content
cannot be read is our fault and may pass: it is never a 404, which would say that it was not pushed.
"""

import attrs

from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.reading import HostedReader
from mirrord.hosted.referrers import HostedReferrers
from mirrord.hosted.uploads import Uploader
from mirrord.mirrored.blob_readers import CachedBlob
from mirrord.mirrored.ports import BlobFiles as StoredBlobs
from mirrord.mirrored.ports import ManifestFiles as StoredManifests
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Unavailable
from mirrord.oci.names import Reference, RepositoryKey
from mirrord.repository import BlobReader, BlobSizeResult, DescriptorResult, ManifestResult


@attrs.frozen
class Hosting:
    """All that a registry's client can ask of hosted repositories."""

    reader: HostedReader
    referrers: HostedReferrers
    uploader: Uploader
    mounter: Mounter
    pusher: ManifestPusher
    deleter: HostedDeletion
    blobs: StoredBlobs
    manifests: StoredManifests


@attrs.frozen
class HostedManifests:
    """Manifests that were pushed to us."""

    _reader: HostedReader
    _stored: StoredManifests

    async def get(self, source: RepositoryKey, reference: Reference) -> ManifestResult:
        """The manifest that a reference names, under the media type that it was pushed with."""
        held = self._reader.manifest(source.repository, reference)
        manifest = await self._stored.read(held.digest)
        if manifest is None:
            raise Unavailable("the manifest cannot be read from the disk", detail=str(held.digest))
        return ManifestResult(attrs.evolve(manifest, media_type=held.media_type), CacheResult.hit())

    async def head(self, source: RepositoryKey, reference: Reference) -> DescriptorResult:
        """What a reference names."""
        return DescriptorResult(self._reader.manifest(source.repository, reference), CacheResult.hit())


@attrs.frozen
class HostedBlobs:
    """Blobs that were pushed to us."""

    _reader: HostedReader
    _stored: StoredBlobs

    async def open(self, source: RepositoryKey, digest: Digest) -> BlobReader:
        """A blob. Close it."""
        self._reader.blob(source.repository, digest)
        blob = self._stored.open(digest)
        if blob is None:
            raise Unavailable("the blob cannot be read from the disk", detail=str(digest))
        return CachedBlob(blob, CacheResult.hit())

    async def head(self, source: RepositoryKey, digest: Digest) -> BlobSizeResult:
        """That there is a blob, and its size."""
        return BlobSizeResult(self._reader.blob(source.repository, digest).size, CacheResult.hit())
