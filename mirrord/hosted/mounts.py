"""Mounts: a blob that is here already becomes another repository's without a byte sent.

Nobody may learn from a mount what they may not read. So whether the caller may read a repository is asked
before it is looked whether the blob is there; and a blob that cannot be mounted, for whatever reason, is
answered like one that is nowhere: by an upload (distribution-spec, "Mounting a blob from another
repository").
"""

from collections.abc import Callable
from itertools import islice

import attrs

from mirrord.hosted.ports import HostedLinks, Mirrored
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName

_MAX_HOLDERS = 256
"""So many holders of a blob are looked at for one that the caller may read."""


@attrs.frozen(eq=False)
class Mounter:
    """Mounts blobs, of hosted repositories and of those that are mirrored."""

    _index: HostedLinks
    _mirrored: Mirrored

    async def mount(
        self,
        repository: RepositoryName,
        digest: Digest,
        origin: RepositoryKey | None,
        may_read: Callable[[RepositoryKey], bool],
    ) -> bool:
        """Whether the repository has the blob now; without `origin` from anywhere that the caller may read.

        Raises:
            OSError: The disk refused.
        """
        if origin is None:
            size = self._search(repository, digest, may_read)
        else:
            size = self._size_at(origin, digest) if may_read(origin) else None
        if size is None:
            return False
        return await self._index.add_blob(repository, Descriptor(OCTET_STREAM, digest, size))

    def _size_at(self, source: RepositoryKey, digest: Digest) -> int | None:
        if source.upstream != HOSTED:
            return self._mirrored.size_of(source, digest)
        link = self._index.link(source.repository, digest, is_manifest=False)
        return None if link is None else link.descriptor.size

    def _search(
        self, repository: RepositoryName, digest: Digest, may_read: Callable[[RepositoryKey], bool]
    ) -> int | None:
        """The size of a blob that the repository itself has, or one that the caller may read."""
        size = self._size_at(RepositoryKey(HOSTED, repository), digest)
        if size is not None:
            return size
        for holder in islice(self._index.repositories_with(digest), _MAX_HOLDERS):
            source = RepositoryKey(HOSTED, holder)
            if may_read(source):
                return self._size_at(source, digest)
        return None
