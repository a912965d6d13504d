"""The store as the collector sees it. Sizes are bytes that files occupy on the disk."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from mirrord.oci.content import Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName


class EvictableContent(Protocol):
    """Mirrored content and partials, their sizes, and their eviction."""

    @property
    def total_bytes(self) -> int:
        """Return the size of mirrored blobs, manifests and partials."""
        ...

    @property
    def busy_bytes(self) -> int:
        """Return the part of `total_bytes` that cannot be evicted now: open blobs, running downloads."""
        ...

    @property
    def reserved_bytes(self) -> int:
        """Return what running downloads have reserved and not yet written."""
        ...

    def reserve(self, digest: Digest, size: int) -> None:
        """Reserve `size` more bytes until the partial of `digest` has written them or ended.

        This replaces an earlier reservation for the same digest; 0 cancels it.
        """

    @property
    def lent_bytes(self) -> int:
        """Return what streams that are not kept have reserved and not yet written."""
        ...

    def lend(self, digest: Digest, size: int) -> None:
        """Reserve bytes as `reserve` does, for a partial that will not be kept."""

    def is_busy(self, entry: Entry) -> bool:
        """Return whether an entry cannot be evicted now."""
        ...

    async def flush(self) -> None:
        """Bring the order of `entries` up to date.

        Raises:
            OSError: The write failed; `entries` leaves out what was used since the last flush.
        """

    def entries(self) -> Iterator[Entry]:
        """Iterate over everything evictable, least recently used first; pages are read as needed."""
        ...

    def partials(self) -> Iterator[Entry]:
        """Iterate over those `entries` that unfinished downloads left, oldest first."""
        ...

    async def evict(self, entries: Sequence[Entry]) -> list[Entry]:
        """Evict those of a few entries that are not busy, and return them; they are absent at once.

        Raises:
            OSError: The disk failed.
        """
        ...

    def forget_unused(self, idle_seconds: float) -> Iterator[int]:
        """Delete links and tags that were unused for so long; yield the number after each small slice."""
        ...


class CollectableHostedContent(Protocol):
    """The content of hosted repositories, and its removal. Seconds are service time."""

    def expired_uploads(self, idle_seconds: float) -> list[str]:
        """Return the uploads that were not touched for so long."""
        ...

    async def remove_uploads(self, names: Sequence[str]) -> int:
        """Discard a few uploads unless they are in use again, and return the bytes freed.

        Raises:
            OSError: The disk failed.
        """
        ...

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        """Return the next hosted repositories in order of name, `limit` at most."""
        ...

    def manifests(self, repository: RepositoryName) -> Iterator[list[HostedManifest]]:
        """Iterate over the manifests of a repository, page by page."""
        ...

    def tags(self, repository: RepositoryName) -> Iterator[list[HostedTag]]:
        """Iterate over the tags of a repository, page by page."""
        ...

    async def apply_plan(self, plan: RetentionPlan, grace_seconds: float) -> tuple[int, int]:
        """Remove tags, and then manifests that nothing needs by now; return how many of both.

        Manifests that a push of an index looked up within the grace time stay.

        Raises:
            OSError: The disk failed; nothing was removed.
        """
        ...

    def unreferenced(self, grace_seconds: float) -> Iterator[list[tuple[RepositoryName, Digest]]]:
        """Iterate over the blobs that no manifest of their repository names and no client looked up since."""
        ...

    async def unlink(self, blobs: Sequence[tuple[RepositoryName, Digest]], grace_seconds: float) -> int:
        """Remove blobs from their repositories if they are still unreferenced; return how many.

        Raises:
            OSError: The disk failed; nothing was removed.
        """
        ...

    def unlinked(self) -> Iterator[list[Entry]]:
        """Iterate over hosted content that no hosted repository is linked to any more, page by page."""
        ...

    def mirrored(self, entries: Sequence[Entry]) -> Iterator[set[str]]:
        """Iterate over the names of those that a mirrored repository is linked to, a few at a time."""
        ...

    async def return_to_cache(self, entries: Sequence[Entry]) -> list[Entry]:
        """Make content mirrored, so that it is kept as long as it is used; return what has no room there.

        Raises:
            OSError: The disk failed.
        """

    async def remove_quarantined(self) -> int:
        """Delete what was in quarantine for its time; return how many files.

        Raises:
            OSError: The disk failed.
        """
        ...

    async def remove(self, entries: Sequence[Entry]) -> list[Entry]:
        """Delete content unless a hosted repository is linked to it again; return what was deleted.

        Raises:
            OSError: The disk failed; what was begun is absent all the same.
        """
        ...
