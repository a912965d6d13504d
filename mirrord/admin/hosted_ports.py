"""What the operator's use cases need of hosted repositories; as in ports.py, `assembly.py` hands it in."""

from collections.abc import Iterator
from typing import Protocol

from mirrord.oci.content import ContentKind, HostedLink, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryName, Tag


class HostedIndex(Protocol):
    """What hosted repositories hold. What is removed is gone for good on return.

    A removal that raises OSError has removed nothing.
    """

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        """The next hosted repositories in order of name, `limit` at most."""
        ...

    def links(self, repository: RepositoryName) -> Iterator[list[HostedLink]]:
        """All that a repository holds, a page an item."""
        ...

    def tagged(self, repository: RepositoryName) -> Iterator[list[tuple[Tag, Digest, float]]]:
        """All tags, what they name and since when by wall clock; a page an item."""
        ...

    def tag(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        """The manifest that a tag names."""
        ...

    def link(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> HostedLink | None:
        """What the repository holds under this digest, with `is_manifest` of that kind only."""
        ...

    def repositories_with(self, digest: Digest, *, is_manifest: bool = False) -> Iterator[RepositoryName]:
        """The hosted repositories that hold a blob, or a manifest."""
        ...

    def lost(self) -> Iterator[list[tuple[RepositoryName, ContentKind, Digest]]]:
        """What repositories should hold, and the disk does not; a page of all links an item."""
        ...

    async def delete(self, repository: RepositoryName, digest: Digest) -> bool:
        """Remove what the repository holds under this digest, and the tags that name it; False: nothing."""
        ...

    async def delete_repository(self, repository: RepositoryName) -> bool:
        """Remove all that a repository holds; False if that was nothing."""
        ...


class HostedShelf(Protocol):
    """Hosted repositories as a web of manifests. Its pages are small looks at the file."""

    def manifests(self, repository: RepositoryName) -> Iterator[list[HostedManifest]]:
        """The manifests of a repository, a page an item."""
        ...

    def tags(self, repository: RepositoryName) -> Iterator[list[HostedTag]]:
        """The tags of a repository, a page an item."""
        ...

    async def apply_plan(self, thinning: RetentionPlan) -> tuple[int, int]:
        """Remove tags, and then manifests that nothing needs by now; how many of both went."""
        ...
