"""What the web needs of the use cases of pulling; `foundation.py` hands in the real ones.

Those of hosted repositories it uses as they are (hosted.py): behind them is nothing but the store.
"""

from collections.abc import Iterator
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.api.hosted import Hosting
from mirrord.oci.digest import Digest
from mirrord.oci.names import Reference, RepositoryKey
from mirrord.oci.routes import Target
from mirrord.repository import (
    BlobReader,
    BlobSizeResult,
    DescriptorResult,
    ManifestResult,
    ReferrersResult,
    TagListResult,
)


class Sources(Protocol):
    """Which upstream a request means."""

    def locate(self, target: Target, default: str) -> RepositoryKey:
        """The source of the repository in `target`, on a listener whose own upstream is `default`.

        Raises:
            RegistryError: No such upstream, or a repository that may not be mirrored.
        """
        ...

    def knows(self, namespace: str) -> bool:
        """Whether an upstream is called so."""
        ...

    def upstream_of(self, target: Target) -> str | None:
        """The upstream that `target` names outside its repository; None where it names none.

        Raises:
            NameUnknown: No upstream is called so.
        """
        ...


class Manifests(Protocol):
    """Pulling manifests."""

    async def get(self, source: RepositoryKey, reference: Reference) -> ManifestResult:
        """A verified manifest."""
        ...

    async def head(self, source: RepositoryKey, reference: Reference) -> DescriptorResult:
        """What a reference names."""
        ...


class Blobs(Protocol):
    """Pulling blobs."""

    async def open(self, source: RepositoryKey, digest: Digest) -> BlobReader:
        """A blob that can be read, as soon as its size is known. Close it."""
        ...

    async def head(self, source: RepositoryKey, digest: Digest) -> BlobSizeResult:
        """That there is a blob, and its size."""
        ...


class Tags(Protocol):
    """Listing tags."""

    async def list(self, source: RepositoryKey) -> TagListResult:
        """All tags of a repository, sorted."""
        ...


class Referrers(Protocol):
    """Listing referrers."""

    async def list(self, source: RepositoryKey, digest: Digest, artifact_type: str | None) -> ReferrersResult:
        """What refers to `digest`."""
        ...


class Catalog(Protocol):
    """Listing repositories."""

    def repositories(
        self, target: Target, default: str, last: str
    ) -> Iterator[tuple[str, RepositoryKey | None]]:
        """The repositories after `last`, in order of what this listener's clients call them.

        They are read as they are taken; None stands for one of which nothing is held any more.
        """
        ...


class Visitors(Protocol):
    """Who remembers who asked."""

    def record(self, source: RepositoryKey, reference: Reference, client: str) -> None:
        """A client was given a manifest."""


@attrs.frozen
class UseCases:
    """All that a registry's client can ask."""

    sources: Sources
    manifests: Manifests
    blobs: Blobs
    tags: Tags
    referrers: Referrers
    catalog: Catalog
    visitors: Visitors
    hosting: Hosting
    clock: IReactorTime
