"""What the operator's use cases need of the store, of pulling and of the collector.

`assembly.py` hands in the real ones; tests hand in fakes. Every method that is not a coroutine answers
at once; an iterator does a small slice of work an item, and whoever iterates gives others a turn.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from mirrord.oci.content import CachedTag, ContentKind, ContentLink, Entry, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, Tag
from mirrord.oci.routes import Target


class Inventory(Protocol):
    """The store, looked at; that is no use of what is in it."""

    async def flush(self) -> None:
        """Bring what is listed up to date.

        Raises:
            OSError: The disk refused; what is listed is older.
        """

    def sources(self) -> Iterator[RepositoryKey]:
        """All repositories of which something is known, sorted."""
        ...

    def content_links(self, source: RepositoryKey) -> Iterator[list[ContentLink]]:
        """The links of a repository, a page an item."""
        ...

    def tags(self, source: RepositoryKey) -> Iterator[list[CachedTag]]:
        """The tags of a repository, sorted, a page an item."""
        ...

    def tag(self, source: RepositoryKey, tag: Tag) -> TagRecord | None:
        """What is known of a tag."""
        ...

    def link(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        """What a repository may read under this digest."""
        ...

    def size_of(self, kind: ContentKind, digest: Digest) -> int | None:
        """The bytes of what is held; None if it is not."""
        ...

    def partial_size(self, digest: Digest) -> int | None:
        """The bytes that an unfinished download of this blob has left; None if there is none."""
        ...

    async def manifest(self, digest: Digest) -> Manifest | None:
        """A stored manifest; None if there is none, or it is damaged."""
        ...

    def links_to(self, digests: Collection[Digest]) -> Iterator[list[tuple[RepositoryKey, Digest]]]:
        """Who may read these; a pair may come more than once."""
        ...


class Shelves(Inventory, Protocol):
    """The store, from which something may be taken."""

    def unlink(self, source: RepositoryKey, digest: Digest) -> None:
        """Let a repository no longer read this without asking its upstream."""

    def delete_tag(self, source: RepositoryKey, tag: Tag) -> None:
        """Know nothing of a tag."""

    async def remove(self, digests: Sequence[Digest]) -> list[Entry]:
        """Take from the disk what is under these digests, and answer what went; what is read now stays."""
        ...

    def is_pinned(self, digest: Digest) -> bool:
        """Whether somebody reads this blob now."""
        ...

    def when_unpinned(self, digest: Digest) -> Deferred[None]:
        """Fires when nobody reads this blob."""
        ...


class Examination(Protocol):
    """One file at rest that is being hashed. Close it."""

    async def hash_slice(self) -> int:
        """Hash some more; how many bytes, 0 when all is hashed.

        Raises:
            OSError: The disk cannot give it back.
        """
        ...

    @property
    def is_whole(self) -> bool:
        """Whether what was hashed is what the digest names."""
        ...

    def set_aside(self) -> bool:
        """Have it absent from now on; false where it has gone or changed by itself."""
        ...

    def close(self) -> None:
        """Let go; may be called more than once."""


class Audit(Protocol):
    """All content at rest. Bytes are those that files take of the disk."""

    @property
    def total_bytes(self) -> int:
        """What all content takes."""
        ...

    @property
    def total_entries(self) -> int:
        """How many blobs and manifests there are."""
        ...

    def pages(self) -> Iterator[list[Entry]]:
        """All content, a page an item."""
        ...

    def examine(self, entry: Entry) -> Examination | None:
        """Begin to hash an entry; None where it has gone since it was listed."""
        ...


class Sources(Protocol):
    """Which upstream and repository are meant."""

    def locate(self, target: Target, default: str) -> RepositoryKey:
        """The source of the repository in `target`.

        Raises:
            NameUnknown: No upstream is called so.
            Denied: The configuration does not let this repository be mirrored.
        """
        ...


class PulledManifest(Protocol):
    """A manifest, as pulling answers it."""

    @property
    def manifest(self) -> Manifest:
        """The manifest, verified."""
        ...


class Manifests(Protocol):
    """Pulling manifests, as a client does."""

    async def get(self, source: RepositoryKey, reference: Reference) -> PulledManifest:
        """A verified manifest.

        Raises:
            RegistryError: The upstream does not give it.
        """
        ...


class PulledBlob(Protocol):
    """A blob that is there, or grows. Close it."""

    @property
    def size(self) -> int:
        """The whole blob's bytes."""
        ...

    @property
    def readable(self) -> int:
        """How many bytes of it are there."""
        ...

    async def grown(self, beyond: int) -> int:
        """Wait until `readable` is greater than `beyond`, and return it.

        Raises:
            RegistryError: The download failed.
        """
        ...

    def close(self) -> None:
        """Let go; may be called more than once."""


class Blobs(Protocol):
    """Pulling blobs, as a client does; a download that was begun goes on without us."""

    async def open(self, source: RepositoryKey, digest: Digest) -> PulledBlob:
        """A blob, as soon as its size is known.

        Raises:
            RegistryError: The upstream does not give it.
        """
        ...


Condition = Callable[[str], str | None]
"""Why the upstream of a name would not be asked now, in one sentence; None if it would."""

Downloads = Callable[[], dict[Digest, int]]
"""The blobs that are being downloaded, and how many bytes of each are written."""
