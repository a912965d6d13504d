"""What the collector needs of the store, and of whoever counts."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from mirrord.oci.content import Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName


class EvictableContent(Protocol):
    """What the store holds, and taking it away. Bytes are those that files take of the disk."""

    @property
    def total_bytes(self) -> int:
        """What blobs, manifests and partials take."""
        ...

    @property
    def busy_bytes(self) -> int:
        """What of `total_bytes` cannot go now: blobs that are read, partials that are written."""
        ...

    @property
    def reserved_bytes(self) -> int:
        """What running downloads were promised and will still write."""
        ...

    def reserve(self, digest: Digest, size: int) -> None:
        """Count `size` more bytes as promised, until the partial of `digest` has written them or ended.

        What the same digest was promised before is replaced; 0 takes it back.
        """

    @property
    def lent_bytes(self) -> int:
        """What streams that are not kept were lent and will still write."""
        ...

    def lend(self, digest: Digest, size: int) -> None:
        """The same as `promise`, for a partial that will not be kept."""

    def is_busy(self, entry: Entry) -> bool:
        """Whether this entry cannot go now."""
        ...

    async def flush(self) -> None:
        """Bring the order of `entries` up to date.

        Raises:
            OSError: The disk refused; `entries` leaves out what was used since the last time.
        """

    def entries(self) -> Iterator[Entry]:
        """All that may go, what was used longest ago first; read page by page, as far as one iterates."""
        ...

    def partials(self) -> Iterator[Entry]:
        """Those of `entries` that unfinished downloads left."""
        ...

    async def evict(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take a few entries away, those that are not busy, and answer which; they are absent at once.

        Raises:
            OSError: The disk refused.
        """
        ...

    def forget_unused(self, idle_seconds: float) -> Iterator[int]:
        """Forget links and tags that nobody used for so long: one small slice an item, how many went."""
        ...


class CollectableHostedContent(Protocol):
    """What hosted repositories hold, and taking away what they need not. Seconds are service time."""

    def expired_uploads(self, idle_seconds: float) -> list[str]:
        """The uploads that nobody has touched for so long."""
        ...

    async def remove_uploads(self, names: Sequence[str]) -> int:
        """Throw away a few uploads, unless they are in use again; how many bytes that frees.

        Raises:
            OSError: The disk refused.
        """
        ...

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        """The next hosted repositories in order of name, `limit` at most."""
        ...

    def manifests(self, repository: RepositoryName) -> Iterator[list[HostedManifest]]:
        """The manifests of a repository, a page an item."""
        ...

    def tags(self, repository: RepositoryName) -> Iterator[list[HostedTag]]:
        """The tags of a repository, a page an item."""
        ...

    async def apply_plan(self, thinning: RetentionPlan, grace_seconds: float) -> tuple[int, int]:
        """Remove tags, and then manifests, that nothing needs by now; how many of both went.

        What an index that is being pushed asked for within the grace time stays.

        Raises:
            OSError: The disk refused; they are all there still.
        """
        ...

    def unreferenced(self, grace_seconds: float) -> Iterator[list[tuple[RepositoryName, Digest]]]:
        """The blobs that no manifest of their repository names, nor anybody asked for; a page an item."""
        ...

    async def unlink(self, blobs: Sequence[tuple[RepositoryName, Digest]], grace_seconds: float) -> int:
        """Take these blobs from their repositories, as far as they are still unreferenced; how many went.

        Raises:
            OSError: The disk refused; they are all there still.
        """
        ...

    def unlinked(self) -> Iterator[list[Entry]]:
        """Hosted content that no hosted repository holds any more, a page an item."""
        ...

    def mirrored(self, entries: Sequence[Entry]) -> Iterator[set[str]]:
        """The names of those of a page that a mirrored repository is linked to, a few an item."""
        ...

    def mark_mirrored(self, entries: Sequence[Entry]) -> None:
        """Have content be the mirror's from now on, which keeps it as long as somebody uses it."""

    async def remove(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take content from the disk, unless a hosted repository holds it again; answers what went.

        Raises:
            OSError: The disk refused; what had begun to go is absent all the same.
        """
        ...


class Tally(Protocol):
    """Who counts what was evicted."""

    def evicted(self, count: int, size: int) -> None:
        """A sweep evicted `count` entries of `size` bytes together."""
