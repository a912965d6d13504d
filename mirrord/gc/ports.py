"""What the collector needs of the store, and of whoever counts."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from mirrord.oci.digest import Digest
from mirrord.oci.entry import Entry


class Shelf(Protocol):
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
    def promised_bytes(self) -> int:
        """What running downloads were promised and will still write."""
        ...

    def promise(self, digest: Digest, size: int) -> None:
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

    async def settle(self) -> None:
        """Bring the order of `entries` up to date.

        Raises:
            OSError: The disk refused; `entries` leaves out what was used since the last time.
        """

    def entries(self) -> Iterator[Entry]:
        """All that may go, what was used longest ago first; read page by page, as far as one iterates."""
        ...

    def leftovers(self) -> Iterator[Entry]:
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


class Tally(Protocol):
    """Who counts what was evicted."""

    def evicted(self, count: int, size: int) -> None:
        """A sweep evicted `count` entries of `size` bytes together."""
