"""Contents: the list of committed blobs and stored manifests, the disk space they use, and cached bodies."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import attrs
from cachetools import LRUCache

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store.database import Database
from mirrord.store.layout import BLOCK_BYTES, footprint
from mirrord.store.removals import Removals
from mirrord.store.schema import CONTENT, PAGE_ROWS, ContentRow

TOTALS = "SELECT entries, blocks FROM content_totals ORDER BY is_hosted"
_LEAST_RECENTLY_USED = (
    "SELECT * FROM content WHERE is_hosted = 0 AND (last_used, digest, kind) > (?, ?, ?) "  # noqa: S608
    f"ORDER BY last_used, digest, kind LIMIT {PAGE_ROWS}"
)
_BY_PREFIX = (
    "SELECT * FROM content WHERE kind = ? AND digest < ? AND digest > ? "  # noqa: S608
    f"ORDER BY digest LIMIT {PAGE_ROWS}"
)
_HOSTED_TYPE = "SELECT media_type FROM hosted_links WHERE digest = ? AND is_manifest = ? LIMIT 1"


@attrs.define
class Total:
    """A number of entries, and the bytes of disk that they use."""

    entries: int = 0
    bytes: int = 0

    def __add__(self, other: "Total") -> "Total":
        return Total(self.entries + other.entries, self.bytes + other.bytes)

    def count(self, row: ContentRow, sign: int) -> None:
        """Add (1) or subtract (-1) a row."""
        self.entries += sign
        self.bytes += sign * footprint(row.size)


class BodyCache:
    """An LRU cache of the bodies of small blobs and of manifests, which are then served without the disk."""

    def __init__(self, max_bytes: int) -> None:
        self._bodies: LRUCache[tuple[ContentKind, Digest], bytes] = LRUCache(max_bytes, getsizeof=len)

    @property
    def total_bytes(self) -> int:
        """The bytes of all cached bodies."""
        return int(self._bodies.currsize)

    def get(self, kind: ContentKind, digest: Digest) -> bytes | None:
        """Return the body of this content, if it is cached; counts as a use."""
        return self._bodies.get((kind, digest))

    def put(self, kind: ContentKind, digest: Digest, body: bytes) -> None:
        """Cache a body, unless it would evict more than half of all others."""
        self.drop(kind, digest)
        if len(body) <= self._bodies.maxsize // 2:
            self._bodies[kind, digest] = body

    def drop(self, kind: ContentKind, digest: Digest) -> None:
        """Forget the body of this content."""
        self._bodies.pop((kind, digest), None)


@attrs.define(eq=False)
class Contents:
    """The rows of content, and cached `bodies`; `mirrored` and `hosted` are running totals.

    A file without a row is adopted when it is requested, unless it is one of the `removals`.

    Content that is claimed, or linked to a hosted repository, is hosted: only a sweep of hosted content
    removes it.
    """

    _database: Database
    bodies: BodyCache
    mirrored: Total = attrs.field(init=False)
    hosted: Total = attrs.field(init=False)
    removals: Removals = attrs.field(factory=Removals, init=False)
    _claims: Counter[tuple[ContentKind, Digest]] = attrs.field(factory=Counter, init=False)

    def __attrs_post_init__(self) -> None:
        self.mirrored, self.hosted = (
            Total(entries, blocks * BLOCK_BYTES) for entries, blocks in self._database.select(TOTALS, ())
        )

    @property
    def total(self) -> Total:
        """The total of all content."""
        return self.mirrored + self.hosted

    def get(self, kind: ContentKind, digest: Digest) -> ContentRow | None:
        """Return the row of this content; None if it is not stored."""
        return self._database.get(CONTENT, (str(digest), kind))

    def add(self, kind: ContentKind, digest: Digest, size: int, media_type: str = "") -> ContentRow:
        """Record that content is on the disk, used now."""
        self.drop(kind, digest)
        hosted_type = self.hosted_type(kind, digest)
        return self._put(
            ContentRow(
                digest=str(digest),
                kind=kind,
                size=size,
                media_type=media_type or hosted_type or "",
                last_used=self._database.now(),
                is_hosted=hosted_type is not None or (kind, digest) in self._claims,
            )
        )

    def use(self, digest: Digest) -> None:
        """Record that content is used now."""
        self._database.use(CONTENT, (str(digest),))

    def drop(self, kind: ContentKind, digest: Digest) -> bool:
        """Record that content is gone; return False if it was not there."""
        self.bodies.drop(kind, digest)
        row = self.get(kind, digest)
        if row is None:
            return False
        self._database.delete(CONTENT, CONTENT.key_of(row))
        self._total_of(row).count(row, -1)
        return True

    def hosted_type(self, kind: ContentKind, digest: Digest) -> str | None:
        """Return the media type that this has in a hosted repository; None if it is in none."""
        for (media_type,) in self._database.select(_HOSTED_TYPE, (str(digest), kind is ContentKind.MANIFEST)):
            return str(media_type)
        return None

    def is_cached(self, kind: ContentKind, digest: Digest) -> bool:
        """Return whether content is stored, in the folder of mirrored repositories."""
        row = self.get(kind, digest)
        return row is not None and not row.is_hosted

    def is_hosted(self, kind: ContentKind, digest: Digest) -> bool:
        """Return whether content is claimed or in a hosted repository; correct its row if it is in one."""
        is_linked = self.hosted_type(kind, digest) is not None
        if is_linked:
            self.mark(kind, digest, is_hosted=True)
        return is_linked or self.is_claimed(kind, digest)

    def is_claimed(self, kind: ContentKind, digest: Digest) -> bool:
        """Return whether a link to content, or its file, is being written."""
        return (kind, digest) in self._claims

    @asynccontextmanager
    async def claimed(self, kind: ContentKind, digest: Digest) -> AsyncIterator[None]:
        """Protect content from removal, stored already or not, while its file and a link to it are written.

        Waits for a removal that has begun. If no link is written in the end, the content stays marked as
        hosted until a sweep finds it unlinked.
        """
        await self.removals.finished(kind, digest)
        self._claims[kind, digest] += 1
        try:
            yield
        finally:
            self._claims[kind, digest] -= 1
            if not self._claims[kind, digest]:
                del self._claims[kind, digest]

    def mark(self, kind: ContentKind, digest: Digest, *, is_hosted: bool) -> None:
        """Count content as hosted, or as mirrored."""
        row = self.get(kind, digest)
        if row is not None and row.is_hosted != is_hosted:
            self._total_of(row).count(row, -1)
            self._put(row._replace(is_hosted=is_hosted, last_used=self._database.now()))

    def least_recently_used(self) -> Iterator[ContentRow]:
        """Iterate over mirrored content in the file by last use, reading a page at a time.

        Rows that were used since they were written there are skipped: they are more recent than all of these.
        """
        after = ("", "", -1.0)
        while page := self._database.select(_LEAST_RECENTLY_USED, (after[2], *after[:2])):
            for row in map(ContentRow._make, page):
                if self._database.is_unused_since(CONTENT, CONTENT.key_of(row), row.last_used):
                    yield row
            after = (row.digest, row.kind, row.last_used)

    def entry(self, row: ContentRow) -> Entry:
        """Return the entry of content, idle since the last use in its row."""
        return Entry(
            kind=ContentKind(row.kind),
            name=row.digest,
            size=footprint(row.size),
            idle_seconds=self._database.now() - row.last_used,
        )

    def was_idle_for(self, kind: ContentKind, digest: Digest, seconds: float) -> bool:
        """Return whether content was not used for so long until now; False if it is not stored."""
        last_used = self._database.last_used(CONTENT, (str(digest), kind))
        return last_used is not None and self._database.now() - last_used >= seconds

    def with_prefix(self, kind: ContentKind, prefix: str) -> Iterator[list[ContentRow]]:
        """Iterate over pages of the rows in the file whose digest begins with `prefix`."""
        after = prefix
        while page := self._database.select(_BY_PREFIX, (kind, prefix + "g", after)):
            yield [ContentRow._make(row) for row in page]
            after = page[-1][0]

    def _put(self, row: ContentRow) -> ContentRow:
        self._database.put(CONTENT, row)
        self._total_of(row).count(row, 1)
        return row

    def _total_of(self, row: ContentRow) -> Total:
        return self.hosted if row.is_hosted else self.mirrored
