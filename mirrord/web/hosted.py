"""Hosted repositories behind the resources that also answer for upstreams: where a link is, there is a hit.

Permission is the index's to give, bytes come from the same store as mirrored ones. A link whose content
cannot be read is our fault and may pass: it is never a 404, which would say that it was not pushed.
"""

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.errors import Unavailable
from mirrord.oci.names import Reference, Source
from mirrord.pull.answers import PulledBlob, PulledDescriptor, PulledManifest, PulledSize
from mirrord.pull.outcome import Outcome
from mirrord.pull.ports import Blobs as StoredBlobs
from mirrord.pull.ports import Manifests as StoredManifests
from mirrord.pull.readers import HeldBlob
from mirrord.push.deletion import Deleter
from mirrord.push.manifests import ManifestPusher
from mirrord.push.mounts import Mounter
from mirrord.push.reading import HostedReader
from mirrord.push.referrers import HostedReferrers
from mirrord.push.uploads import Uploader


@attrs.frozen
class Hosting:
    """All that a registry's client can ask of hosted repositories."""

    reader: HostedReader
    referrers: HostedReferrers
    uploader: Uploader
    mounter: Mounter
    pusher: ManifestPusher
    deleter: Deleter
    blobs: StoredBlobs
    manifests: StoredManifests


@attrs.frozen
class HostedManifests:
    """Manifests that were pushed to us."""

    _reader: HostedReader
    _stored: StoredManifests

    async def get(self, source: Source, reference: Reference) -> PulledManifest:
        """The manifest that a reference names, under the media type that it was pushed with."""
        held = self._reader.manifest(source.repository, reference)
        manifest = await self._stored.read(held.digest)
        if manifest is None:
            raise Unavailable("the manifest cannot be read from the disk", detail=str(held.digest))
        return PulledManifest(attrs.evolve(manifest, media_type=held.media_type), Outcome.hit())

    async def head(self, source: Source, reference: Reference) -> PulledDescriptor:
        """What a reference names."""
        return PulledDescriptor(self._reader.manifest(source.repository, reference), Outcome.hit())


@attrs.frozen
class HostedBlobs:
    """Blobs that were pushed to us."""

    _reader: HostedReader
    _stored: StoredBlobs

    async def open(self, source: Source, digest: Digest) -> PulledBlob:
        """A blob. Close it."""
        self._reader.blob(source.repository, digest)
        blob = self._stored.open(digest)
        if blob is None:
            raise Unavailable("the blob cannot be read from the disk", detail=str(digest))
        return HeldBlob(blob, Outcome.hit())

    async def head(self, source: Source, digest: Digest) -> PulledSize:
        """That there is a blob, and its size."""
        return PulledSize(self._reader.blob(source.repository, digest).size, Outcome.hit())
