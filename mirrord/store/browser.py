"""The store as its operator sees it. Looking at content does not count as a use of it.

Listings are read from the file alone, page by page, so that a store of any size can be listed while the
daemon serves clients; `flush` brings the file up to date first.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.content import CachedTag, ContentKind, ContentLink, Entry, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.store.blobs import BlobStore
from mirrord.store.contents import Contents
from mirrord.store.database import Database
from mirrord.store.eviction import EvictionStore
from mirrord.store.layout import Layout, footprint
from mirrord.store.manifests import read_manifest
from mirrord.store.mirrored_index import MirroredIndex
from mirrord.store.partials import PartialStore
from mirrord.store.schema import LINKS, PAGE_ROWS, TAGS, LinkRow, TagRow
from mirrord.store.threads import Threads

_NEXT_SOURCE = (
    "SELECT upstream, repository FROM {} WHERE (upstream, repository) > (?, ?) "
    "ORDER BY upstream, repository LIMIT 1"
)
_LINKS_OF = (
    "SELECT page.*, content.kind, content.size FROM "  # noqa: S608
    f"(SELECT * FROM links WHERE upstream = ? AND repository = ? AND digest > ? LIMIT {PAGE_ROWS}) AS page "
    "LEFT JOIN content USING (digest) ORDER BY page.digest"
)
_TAGS_OF = (
    f"SELECT * FROM tags WHERE upstream = ? AND repository = ? AND tag > ? ORDER BY tag LIMIT {PAGE_ROWS}"  # noqa: S608
)
_NEXT_UPSTREAM = "SELECT min(upstream) FROM links WHERE upstream > ?"
_LINKED = """
WITH RECURSIVE named (repository) AS (
    SELECT min(repository) FROM links WHERE upstream = ?1 AND repository > ?2
    UNION ALL
    SELECT (SELECT min(repository) FROM links WHERE upstream = ?1 AND repository > named.repository)
    FROM named WHERE repository IS NOT NULL
    LIMIT ?3)
SELECT named.repository, links.digest FROM named LEFT JOIN links
    ON links.upstream = ?1 AND links.repository = named.repository AND links.digest IN ({})
WHERE named.repository IS NOT NULL
"""
"""Steps from one repository of an upstream to the next, and looks for the digests in each."""

_LOOKUPS = 1024
"""The most pairs of a repository and a digest that one query looks up: some 5 milliseconds."""


@attrs.define(eq=False, kw_only=True)
class StoreBrowser:
    """Links, tags and content of mirrored repositories; implements `CachedContent` of `mirrored/ports.py`.

    All methods raise OSError when the disk fails.
    """

    _layout: Layout
    _database: Database
    _contents: Contents
    _index: MirroredIndex
    _blobs: BlobStore
    _partials: PartialStore
    _eviction: EvictionStore
    _threads: Threads
    _wall_clock: Callable[[], float]

    async def flush(self) -> None:
        """Bring the listings up to date."""
        await self._database.flush()

    def sources(self) -> Iterator[RepositoryKey]:
        """Iterate over all mirrored repositories with a link or tag, sorted; one query per item."""
        last = ("", "")
        while found := [
            row
            for table in (LINKS, TAGS)
            for row in self._database.select(_NEXT_SOURCE.format(table.name), last)
        ]:
            last = min(found)
            yield RepositoryKey(last[0], RepositoryName(last[1]))

    def content_links(self, source: RepositoryKey) -> Iterator[list[ContentLink]]:
        """Iterate over pages of a repository's links by digest. Content of two kinds is listed twice."""
        names = source.upstream, str(source.repository)
        for page in self._database.pages(_LINKS_OF, *names, key=slice(2, 3)):
            yield [self._content_link(LinkRow._make(row[:-2]), *row[-2:]) for row in page]

    def tags(self, source: RepositoryKey) -> Iterator[list[CachedTag]]:
        """Iterate over pages of a repository's tags, sorted."""
        names = source.upstream, str(source.repository)
        for page in self._database.pages(_TAGS_OF, *names, key=slice(2, 3)):
            yield [
                CachedTag(Tag(row.tag), self._index.current(source, row.record()), self._time(row.last_used))
                for row in map(TagRow._make, page)
            ]

    def tag(self, source: RepositoryKey, tag: Tag) -> TagRecord | None:
        """Return the record of a tag, if there is one."""
        row = self._database.get(TAGS, (source.upstream, str(source.repository), str(tag)))
        return None if row is None else self._index.current(source, row.record())

    def link(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        """Return what a repository may read under this digest; None without a link."""
        row = self._database.get(LINKS, (source.upstream, str(source.repository), str(digest)))
        return None if row is None else Descriptor(row.media_type, digest, row.size)

    def size_of(self, kind: ContentKind, digest: Digest) -> int | None:
        """Return the size of stored content; None if it is not stored."""
        row = self._contents.get(kind, digest)
        return None if row is None else row.size

    def has_file(self, kind: ContentKind, digest: Digest) -> bool:
        """Return whether the disk itself has stored content, in full length.

        A file without a row is whole: an earlier run committed it, and the index was lost or rebuilt.
        """
        row = self._contents.get(kind, digest)
        if row is None and self._contents.removals.is_running(kind, digest):
            return False
        for path in self._layout.candidates(kind, digest, is_hosted=row is None or row.is_hosted):
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                return row is None or size == row.size
        return False

    def partial_size(self, digest: Digest) -> int | None:
        """Return the size of the partial that an interrupted download of this blob left, if there is one."""
        return self._partials.partial_size(digest)

    async def manifest(self, digest: Digest) -> Manifest | None:
        """Read a stored manifest from the disk; None if there is none, or it is damaged."""
        row = self._contents.get(ContentKind.MANIFEST, digest)
        if row is None:
            return None
        paths = self._layout.candidates(ContentKind.MANIFEST, digest, is_hosted=row.is_hosted)
        try:
            return await self._threads.read(read_manifest, paths, digest, row.media_type)
        except FileNotFoundError:
            return None

    def links_to(self, digests: Collection[Digest]) -> Iterator[list[tuple[RepositoryKey, Digest]]]:
        """Iterate over pages of all repositories; yield the links of each page to these digests.

        There is no index by digest, so every repository is queried.
        """
        wanted = frozenset(map(str, digests))
        names = sorted(wanted)
        yield [
            (RepositoryKey(row.upstream, RepositoryName(row.repository)), Digest.parse(row.digest))
            for row in self._database.unwritten(LINKS)
            if row.digest in wanted
        ]
        ((upstream,),) = self._database.select(_NEXT_UPSTREAM, ("",))
        while upstream is not None:
            for start in range(0, len(names), PAGE_ROWS):
                yield from self._links_of(upstream, names[start : start + PAGE_ROWS])
            ((upstream,),) = self._database.select(_NEXT_UPSTREAM, (upstream,))

    def unlink(self, source: RepositoryKey, digest: Digest) -> None:
        """Delete a repository's link; the next request for this digest there goes to the upstream."""
        self._database.delete(LINKS, (source.upstream, str(source.repository), str(digest)))

    def delete_tag(self, source: RepositoryKey, tag: Tag) -> None:
        """Delete the record of a tag."""
        self._index.delete_tag(source, tag)

    async def remove(self, digests: Sequence[Digest]) -> list[Entry]:
        """Delete the content of these digests and return what was deleted; content being read stays."""
        return await self._eviction.evict([entry for digest in digests for entry in self._entries(digest)])

    def is_pinned(self, digest: Digest) -> bool:
        """Return whether this blob is being read."""
        return self._blobs.is_pinned(digest)

    def when_unpinned(self, digest: Digest) -> Deferred[None]:
        """Return a Deferred that fires once this blob is not being read."""
        return self._blobs.when_unpinned(digest)

    def _links_of(self, upstream: str, names: list[str]) -> Iterator[list[tuple[RepositoryKey, Digest]]]:
        """Iterate over pages of the repositories of an upstream; yield the links of each page to `names`."""
        sql, last = _LINKED.format(", ".join("?" * len(names))), ""
        while rows := self._database.select(sql, (upstream, last, _LOOKUPS // len(names), *names)):
            last = max(repository for repository, _ in rows)
            yield [
                (RepositoryKey(upstream, RepositoryName(repository)), Digest.parse(digest))
                for repository, digest in rows
                if digest is not None
            ]

    def _entries(self, digest: Digest) -> Iterator[Entry]:
        """Iterate over the files of a digest; with no idle time, so that recent use does not protect them."""
        for kind in (ContentKind.BLOB, ContentKind.MANIFEST):
            row = self._contents.get(kind, digest)
            if row is not None:
                yield Entry(kind=kind, name=row.digest, size=footprint(row.size), idle_seconds=0.0)
        size = self._partials.partial_size(digest)
        if size is not None:
            yield Entry(
                kind=ContentKind.PARTIAL,
                name=self._layout.partial(digest).name,
                size=footprint(size),
                idle_seconds=0.0,
            )

    def _content_link(self, row: LinkRow, kind: str | None, size: int | None) -> ContentLink:
        return ContentLink(
            descriptor=Descriptor(row.media_type, Digest.parse(row.digest), row.size),
            kind=None if kind is None else ContentKind(kind),
            size=footprint(size or 0),
            is_manifest=bool(row.is_manifest),
            used_at=self._time(row.last_used),
        )

    def _time(self, service_seconds: float) -> float:
        """Convert service time to wall clock."""
        return self._wall_clock() - (self._database.now() - service_seconds)
