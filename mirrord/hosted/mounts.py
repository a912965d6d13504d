"""Mounts: a blob that is stored already is linked to another repository without sending a byte.

A client must not learn from a mount what it may not read. So its permission to read a repository is checked
before the blob is looked up there, and a blob that cannot be mounted, for whatever reason, gets the same
response as one that does not exist: an upload session (distribution-spec, "Mounting a blob from another
repository").
"""

from collections.abc import Callable
from itertools import islice

import attrs

from mirrord.hosted.ports import HostedLinks
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.repository import Repository

_MAX_CANDIDATES = 256
"""The most repositories with the blob that are checked for one that the client may read."""


@attrs.frozen(eq=False)
class Mounter:
    """Mounts blobs of hosted and of mirrored repositories."""

    _links: HostedLinks

    async def mount(
        self,
        name: RepositoryName,
        digest: Digest,
        origin: Repository | None,
        may_read: Callable[[RepositoryKey], bool],
    ) -> bool:
        """Link a blob to a repository, from `origin` or (None) any hosted one that the client may read.

        Return whether the repository has the blob now.

        Raises:
            OSError: The disk failed.
        """
        if origin is None:
            size = self._search(name, digest, may_read)
        else:
            size = origin.stored_blob_size(digest) if may_read(origin.key) else None
        if size is None:
            return False
        return await self._links.add_blob(name, Descriptor(OCTET_STREAM, digest, size))

    def _search(
        self, name: RepositoryName, digest: Digest, may_read: Callable[[RepositoryKey], bool]
    ) -> int | None:
        """Return the size of a blob of the repository itself, or of one that the client may read."""
        size = self._size_in(name, digest)
        if size is not None:
            return size
        for candidate in islice(self._links.repositories_with(digest), _MAX_CANDIDATES):
            if may_read(RepositoryKey.hosted(candidate)):
                return self._size_in(candidate, digest)
        return None

    def _size_in(self, name: RepositoryName, digest: Digest) -> int | None:
        link = self._links.link(name, digest, is_manifest=False)
        return None if link is None else link.descriptor.size
