"""Contents: the list of committed blobs and stored manifests, and what they take of the disk."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.database import Database
from mirrord.store.layout import BLOCK_BYTES, footprint
from mirrord.store.schema import CONTENT, PAGE_ROWS, ContentRow

_BLOCKS = f"count(*), sum((size + {BLOCK_BYTES - 1}) / {BLOCK_BYTES})"
TOTALS = (
    f"SELECT {_BLOCKS} FROM content WHERE is_hosted = 0 UNION ALL "  # noqa: S608
    f"SELECT {_BLOCKS} FROM content WHERE is_hosted = 1"
)
_LEAST_RECENTLY_USED = (
    "SELECT * FROM content WHERE is_hosted = 0 AND (last_used, digest, kind) > (?, ?, ?) "  # noqa: S608
    f"ORDER BY last_used, digest, kind LIMIT {PAGE_ROWS}"
)
_BY_PREFIX = "SELECT * FROM content WHERE digest >= ? AND digest < ? AND kind = ?"


_HOSTED_AS = "SELECT media_type FROM hosted_links WHERE digest = ? AND is_manifest = ? LIMIT 1"


@attrs.define
class Total:
    """How many entries, and the bytes that they take of the disk."""

    entries: int = 0
    bytes: int = 0

    def __add__(self, other: "Total") -> "Total":
        return Total(self.entries + other.entries, self.bytes + other.bytes)

    def count(self, row: ContentRow, sign: int) -> None:
        """Count a row that has come (1) or gone (-1)."""
        self.entries += sign
        self.bytes += sign * footprint(row.size)


@attrs.define(eq=False)
class Contents:
    """Rows of content; `mirrored` and `hosted` are running totals.

    What is claimed, or linked to a hosted repository, is hosted: nothing but a sweep of hosted content
    takes it away.
    """

    _database: Database
    mirrored: Total = attrs.field(init=False)
    hosted: Total = attrs.field(init=False)
    _claims: Counter[tuple[ContentKind, Digest]] = attrs.field(factory=Counter, init=False)

    def __attrs_post_init__(self) -> None:
        self.mirrored, self.hosted = (
            Total(entries, (blocks or 0) * BLOCK_BYTES)
            for entries, blocks in self._database.select(TOTALS, ())
        )

    @property
    def total(self) -> Total:
        """All content."""
        return self.mirrored + self.hosted

    def get(self, kind: ContentKind, digest: Digest) -> ContentRow | None:
        """What is held under this digest; None if nothing is."""
        return self._database.get(CONTENT, (str(digest), kind))

    def add(self, kind: ContentKind, digest: Digest, size: int, media_type: str = "") -> ContentRow:
        """Note that content is on the disk, used now."""
        self.drop(kind, digest)
        hosted_as = self.hosted_as(kind, digest)
        is_hosted = hosted_as is not None or (kind, digest) in self._claims
        media_type = media_type or hosted_as or ""
        return self._put(ContentRow(str(digest), kind, size, media_type, self._database.now(), is_hosted))

    def use(self, digest: Digest) -> None:
        """Note that content is used now."""
        self._database.use(CONTENT, (str(digest),))

    def drop(self, kind: ContentKind, digest: Digest) -> bool:
        """Note that content is gone; false if it was not there."""
        row = self.get(kind, digest)
        if row is None:
            return False
        self._database.delete(CONTENT, CONTENT.key_of(row))
        self._total_of(row).count(row, -1)
        return True

    def hosted_as(self, kind: ContentKind, digest: Digest) -> str | None:
        """The media type under which a hosted repository holds this; None if none does."""
        for (media_type,) in self._database.select(_HOSTED_AS, (str(digest), kind is ContentKind.MANIFEST)):
            return str(media_type)
        return None

    def is_hosted(self, kind: ContentKind, digest: Digest) -> bool:
        """Whether content is claimed, or a hosted repository holds it, whatever its row says."""
        is_hosted = (kind, digest) in self._claims or self.hosted_as(kind, digest) is not None
        if is_hosted:
            self.mark(kind, digest, is_hosted=True)
        return is_hosted

    @contextmanager
    def claimed(self, kind: ContentKind, digest: Digest) -> Iterator[None]:
        """Keep content from going, be it there or still to come, while a link to it is being written.

        If none is in the end, it is still marked as hosted, until a sweep finds that nobody holds it.
        """
        self._claims[kind, digest] += 1
        self.mark(kind, digest, is_hosted=True)
        try:
            yield
        finally:
            self._claims[kind, digest] -= 1
            if not self._claims[kind, digest]:
                del self._claims[kind, digest]

    def mark(self, kind: ContentKind, digest: Digest, *, is_hosted: bool) -> None:
        """Count content among what is hosted, or among what is mirrored."""
        row = self.get(kind, digest)
        if row is not None and row.is_hosted != is_hosted:
            self._total_of(row).count(row, -1)
            self._put(row._replace(is_hosted=is_hosted, last_used=self._database.now()))

    def least_recently_used(self) -> Iterator[ContentRow]:
        """What is in the file, what was used longest ago first, read a page at a time.

        What was used since it was written there is passed over: it is more recent than all of this.
        """
        after = ("", "", -1.0)
        while page := self._database.select(_LEAST_RECENTLY_USED, (after[2], *after[:2])):
            for row in map(ContentRow._make, page):
                if self._database.is_unused_since(CONTENT, CONTENT.key_of(row), row.last_used):
                    yield row
            after = (row.digest, row.kind, row.last_used)

    def idle_seconds(self, row: ContentRow) -> float:
        """How long nobody has asked for this content, as the row has it."""
        return self._database.now() - row.last_used

    def was_idle_for(self, kind: ContentKind, digest: Digest, seconds: float) -> bool:
        """Whether nobody has asked for this content for so long, as of now; false if there is none."""
        last_used = self._database.last_used(CONTENT, (str(digest), kind))
        return last_used is not None and self._database.now() - last_used >= seconds

    def under(self, kind: ContentKind, prefix: str) -> list[ContentRow]:
        """The rows of the file whose digest begins with `prefix`."""
        rows = self._database.select(_BY_PREFIX, (prefix, prefix + "g", kind))
        return [ContentRow._make(row) for row in rows]

    def _put(self, row: ContentRow) -> ContentRow:
        self._database.put(CONTENT, row)
        self._total_of(row).count(row, 1)
        return row

    def _total_of(self, row: ContentRow) -> Total:
        return self.hosted if row.is_hosted else self.mirrored
