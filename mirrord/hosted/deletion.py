"""Deleting: tags, manifests and blobs of hosted repositories.

What goes is a link, and everybody sees at once that it is gone. Content itself is shared, and goes with
a sweep when no repository has it any more.
"""

import attrs

from mirrord.hosted.ports import HostedLinks
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, Unsupported
from mirrord.oci.names import Reference, RepositoryName


@attrs.frozen(eq=False)
class HostedDeletion:
    """Deletes, unless the configuration forbids it."""

    _index: HostedLinks
    _is_allowed: bool = True

    async def delete_manifest(self, repository: RepositoryName, reference: Reference) -> None:
        """Remove a tag; or a manifest, with all its tags.

        Raises:
            ManifestUnknown: There is none.
            Unsupported: Nothing is deleted here.
        """
        self._check()
        if isinstance(reference, Digest):
            is_gone = await self._index.delete(repository, reference, is_manifest=True)
        else:
            is_gone = await self._index.delete_tag(repository, reference)
        if not is_gone:
            raise ManifestUnknown("there is no such manifest in this repository")

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Remove a blob.

        Raises:
            BlobUnknown: There is none.
            Unsupported: Nothing is deleted here.
        """
        self._check()
        if not await self._index.delete(repository, digest, is_manifest=False):
            raise BlobUnknown("there is no such blob in this repository")

    def _check(self) -> None:
        if not self._is_allowed:
            raise Unsupported("the configuration of this registry does not allow to delete")
