"""Contents: the list of committed blobs and stored manifests, and what they take of the disk."""

from collections.abc import Iterator

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.entry import Kind
from mirrord.store.layout import BLOCK_BYTES, footprint
from mirrord.store.rows import Rows
from mirrord.store.tables import CONTENT, PAGE_ROWS, ContentRow

TOTALS = f"SELECT count(*), sum((size + {BLOCK_BYTES - 1}) / {BLOCK_BYTES}) FROM content"  # noqa: S608
_LEAST_RECENTLY_USED = (
    "SELECT * FROM content WHERE (last_used, digest, kind) > (?, ?, ?) "  # noqa: S608
    f"ORDER BY last_used, digest, kind LIMIT {PAGE_ROWS}"
)
_BY_PREFIX = "SELECT * FROM content WHERE digest >= ? AND digest < ? AND kind = ?"


@attrs.define(eq=False)
class Contents:
    """Rows of content. `total_bytes` and `total_entries` are kept as running numbers."""

    _rows: Rows
    total_entries: int = attrs.field(init=False)
    total_bytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        ((entries, blocks),) = self._rows.select(TOTALS, ())
        self.total_entries, self.total_bytes = entries, (blocks or 0) * BLOCK_BYTES

    def get(self, kind: Kind, digest: Digest) -> ContentRow | None:
        """What is held under this digest; None if nothing is."""
        return self._rows.get(CONTENT, (str(digest), kind))

    def add(self, kind: Kind, digest: Digest, size: int, media_type: str = "") -> ContentRow:
        """Note that content is on the disk, used now."""
        self.drop(kind, digest)
        row = ContentRow(str(digest), kind, size, media_type, self._rows.now())
        self._rows.put(CONTENT, row)
        self.total_entries += 1
        self.total_bytes += footprint(size)
        return row

    def use(self, digest: Digest) -> None:
        """Note that content is used now."""
        self._rows.use(CONTENT, (str(digest),))

    def drop(self, kind: Kind, digest: Digest) -> bool:
        """Note that content is gone; false if it was not there."""
        row = self.get(kind, digest)
        if row is None:
            return False
        self._rows.delete(CONTENT, CONTENT.key_of(row))
        self.total_entries -= 1
        self.total_bytes -= footprint(row.size)
        return True

    def least_recently_used(self) -> Iterator[ContentRow]:
        """What is in the file, what was used longest ago first, read a page at a time.

        What was used since it was written there is passed over: it is more recent than all of this.
        """
        after = ("", "", -1.0)
        while page := self._rows.select(_LEAST_RECENTLY_USED, (after[2], *after[:2])):
            for row in map(ContentRow._make, page):
                if self._rows.is_unused_since(CONTENT, CONTENT.key_of(row), row.last_used):
                    yield row
            after = (row.digest, row.kind, row.last_used)

    def idle_seconds(self, row: ContentRow) -> float:
        """How long nobody has asked for this content, as the row has it."""
        return self._rows.now() - row.last_used

    def was_idle_for(self, kind: Kind, digest: Digest, seconds: float) -> bool:
        """Whether nobody has asked for this content for so long, as of now; false if there is none."""
        last_used = self._rows.last_used(CONTENT, (str(digest), kind))
        return last_used is not None and self._rows.now() - last_used >= seconds

    def under(self, kind: Kind, prefix: str) -> list[ContentRow]:
        """The rows of the file whose digest begins with `prefix`."""
        rows = self._rows.select(_BY_PREFIX, (prefix, prefix + "g", kind))
        return [ContentRow._make(row) for row in rows]
