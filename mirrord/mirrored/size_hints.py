"""SizeHints: the sizes of blobs according to the manifests that reference them."""

import attrs
from cachetools import LRUCache

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryKey

_MAX_HINTS = 8192


@attrs.define(eq=False)
class SizeHints:
    """Sizes by repository and digest, in memory.

    With one, a client of an upstream that reports no size gets its headers when the download starts, instead
    of when it ends. A hint is no permission, and may be wrong: what the upstream reports and the digest
    decide. After a restart there are none, which costs no more than that wait.
    """

    _sizes: LRUCache[tuple[RepositoryKey, Digest], int] = attrs.field(
        factory=lambda: LRUCache(_MAX_HINTS), init=False
    )

    def add(self, key: RepositoryKey, manifest: Manifest) -> None:
        """Add the sizes of everything that a manifest of the repository references."""
        for descriptor in manifest.references():
            self._sizes[key, descriptor.digest] = descriptor.size

    def get(self, key: RepositoryKey, digest: Digest) -> int | None:
        """Return the size of a blob according to a manifest of the repository; None if it is not known."""
        return self._sizes.get((key, digest))
