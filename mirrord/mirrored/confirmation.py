"""LinkConfirmation: link stored content to a repository once the repository's upstream has answered for it.

Content is stored by digest alone, so that a layer of many images is downloaded and kept once. Whether a
repository may read it is decided by its *links*, and a link is an answer of the repository's own upstream: a
200 to a HEAD or a GET of that digest in that repository, or the bytes themselves.

A manifest that references a digest is no such answer. Anyone can push a manifest to a public registry that
references an arbitrary digest, as a foreign layer for example, which registries do not check. If that were a
permission, it would make readable every private blob and manifest on the disk whose digest is known. So
references are hints of a size and nothing else (size_hints.py), and a shared layer costs each further
repository one HEAD, which Docker Hub does not count as a pull.

Two roads not taken: to download such content again through the repository, which gives the same permission
for the price of all bytes; and to accept that some other repository has it and is public, which an upstream
does not report and which may have changed since.
"""

from collections.abc import Mapping

import attrs

from mirrord.flight.single import SingleFlight
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.ports import BlobFiles, LinkIndex, ManifestFiles, Upstream
from mirrord.mirrored.timeouts import REQUEST_SECONDS
from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamRefused
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import RepositoryKey

_ATTEMPTS = 3


@attrs.define(eq=False, kw_only=True)
class LinkConfirmation:
    """Sends the HEADs that confirm links, each once at a time.

    All methods raise BlobUnknown, ManifestUnknown, NameUnknown or Denied if the upstream refused, and
    UpstreamError if it failed; then nothing is linked.
    """

    _upstreams: Mapping[str, Upstream]
    _files: BlobFiles
    _manifests: ManifestFiles
    _index: LinkIndex
    _writer: CacheWriter
    _blobs: SingleFlight[tuple[RepositoryKey, Digest], int | None] = attrs.field(
        factory=SingleFlight, init=False
    )
    _descriptors: SingleFlight[tuple[RepositoryKey, Digest], Descriptor | None] = attrs.field(
        factory=SingleFlight, init=False
    )

    async def confirm_blob(self, key: RepositoryKey, digest: Digest) -> int | None:
        """Return the size of a blob by HEAD, None if the upstream does not report it; link the stored blob.

        Raises:
            UpstreamRefused: The stored blob, which is verified, has another size.
        """
        return await self._blobs.run((key, digest), lambda: self._confirm_blob(key, digest))

    async def confirm_manifest(self, key: RepositoryKey, digest: Digest) -> Descriptor | None:
        """Return the descriptor of a manifest by HEAD, and link the stored manifest.

        None if the response does not show that it is this manifest: some upstreams respond to HEAD without
        a digest, and some not at all. That is no permission.
        """
        return await self._descriptors.run((key, digest), lambda: self._confirm_manifest(key, digest))

    async def link_manifest(self, key: RepositoryKey, descriptor: Descriptor) -> bool:
        """Link a manifest, if it is stored, that the upstream has just described.

        Return False if the stored manifest, which is verified, has another size.
        """
        if self._index.is_linked(key, descriptor.digest):
            return True
        manifest = await self._manifests.read(descriptor.digest)
        if manifest is None:
            return True
        if len(manifest.body) != descriptor.size:
            return False
        await self._writer.store_manifest(key, manifest)
        return True

    async def _confirm_blob(self, key: RepositoryKey, digest: Digest) -> int | None:
        size = await self._upstreams[key.upstream].head_blob(
            key.repository, digest, budget_seconds=REQUEST_SECONDS
        )
        stored = self._files.size_of(digest)
        if stored is None:
            return size
        if size not in {None, stored}:
            raise UpstreamRefused(f"the stored blob has {stored} bytes, but the upstream reports {size}")
        self._index.add_links(key, [Descriptor(OCTET_STREAM, digest, stored)])
        return stored

    async def _confirm_manifest(self, key: RepositoryKey, digest: Digest) -> Descriptor | None:
        descriptor = await self._upstreams[key.upstream].resolve(
            key.repository, digest, budget_seconds=REQUEST_SECONDS, attempts=_ATTEMPTS
        )
        if descriptor is None or not await self.link_manifest(key, descriptor):
            return None
        return descriptor
