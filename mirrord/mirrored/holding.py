"""What is held of upstreams, for those who would have it elsewhere: it is mounted without being sent."""

import attrs

from mirrord.mirrored.ports import BlobFiles, LinkIndex
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryKey


@attrs.frozen(eq=False)
class HeldElsewhere:
    """Blobs of mirrored repositories. Nobody is asked: what is not here is not worth a mount."""

    _index: LinkIndex
    _blobs: BlobFiles

    def size_of(self, source: RepositoryKey, digest: Digest) -> int | None:
        """The size of a blob that is held, and may be read through `source`; None if there is none."""
        return None if self._index.link(source, digest) is None else self._blobs.size_of(digest)
