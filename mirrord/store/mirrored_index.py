"""The index of mirrored repositories: which digests a repository may read, and what its tags name."""

from collections.abc import Iterable, Iterator

import attrs

from mirrord.oci.content import ContentKind, TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.store.database import Database
from mirrord.store.schema import CONTENT, LINKS, PAGE_ROWS, TAGS, Key, LinkRow, R, Table, TagRow

_PENDING = "SELECT * FROM tags WHERE upstream = ? AND repository = ? AND pending_digest = ?"
_REPOSITORIES = """
WITH RECURSIVE named (repository) AS (
    SELECT min(repository) FROM links WHERE is_manifest = 1 AND upstream = ?1 AND repository > ?2
    UNION ALL
    SELECT (SELECT min(repository) FROM links
            WHERE is_manifest = 1 AND upstream = ?1 AND repository > named.repository)
    FROM named WHERE repository IS NOT NULL
    LIMIT ?3)
SELECT repository, EXISTS (
    SELECT 1 FROM links JOIN content USING (digest)
    WHERE is_manifest = 1 AND upstream = ?1 AND links.repository = named.repository AND kind = 'manifest')
FROM named WHERE repository IS NOT NULL
"""
"""Steps from one repository to the next by the index of links, and looks for one manifest in each."""


@attrs.define(eq=False)
class MirroredIndex:
    """Links and tags of mirrored repositories; implements `LinkIndex` of `mirrored/ports.py`."""

    _database: Database

    def link(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        """Return what `source` may read under this digest; None without a link. Counts as a use of both."""
        key = _link_key(source, digest)
        row = self._database.get(LINKS, key)
        if row is None:
            return None
        self._database.use(LINKS, key)
        self._database.use(CONTENT, (row.digest,))
        return Descriptor(row.media_type, digest, row.size)

    def is_linked(self, source: RepositoryKey, digest: Digest) -> bool:
        """Return whether `source` may read this digest. Does not count as a use."""
        return self._database.get(LINKS, _link_key(source, digest)) is not None

    def add_links(self, source: RepositoryKey, descriptors: Iterable[Descriptor]) -> None:
        """Let `source` read these. An unchanged link only counts as used: a repeated pull writes nothing."""
        now = self._database.now()
        for descriptor in descriptors:
            key = _link_key(source, descriptor.digest)
            known = self._database.get(LINKS, key)
            if known is not None and (known.media_type, known.size) == (
                descriptor.media_type,
                descriptor.size,
            ):
                self._database.use(LINKS, key)
            else:
                is_manifest = known is not None and known.is_manifest
                self._database.put(LINKS, LinkRow.of(key, descriptor, now, is_manifest=is_manifest))

    def tag(self, source: RepositoryKey, tag: Tag) -> TagRecord | None:
        """Return the record of a tag, if there is one. Counts as a use."""
        key = _tag_key(source, tag)
        row = self._database.get(TAGS, key)
        if row is None:
            return None
        self._database.use(TAGS, key)
        return self.current(source, row.record())

    def observe_tag(self, source: RepositoryKey, tag: Tag, observation: TagObservation) -> TagRecord:
        """Record what the upstream answered for a tag; a cached manifest of the tag stays cached."""
        if self._is_cached(source, observation.descriptor.digest):
            record = TagRecord(cached=observation)
        else:
            known = self.tag(source, tag) or TagRecord()
            record = TagRecord(cached=known.cached, pending=observation)
        self._put_tag(_tag_key(source, tag), record)
        return record

    def delete_tag(self, source: RepositoryKey, tag: Tag) -> None:
        """Delete the record of a tag."""
        self._database.delete(TAGS, _tag_key(source, tag))

    def manifest_stored(self, source: RepositoryKey, manifest: Manifest) -> None:
        """Record that a manifest is stored: `source` may read it, and its pending tags become cached."""
        link = _link_key(source, manifest.digest)
        now = self._database.now()
        self._database.put(LINKS, LinkRow.of(link, manifest.descriptor, now, is_manifest=True))
        for row in list(self._pending(source, str(manifest.digest))):
            record = row.record()
            self._put_tag(TAGS.key_of(row), TagRecord(cached=record.pending))

    def repositories(self, upstream: str, after: str, limit: int) -> list[tuple[RepositoryName, bool]]:
        """Return the next repositories by name, at most `limit`, and whether each has a stored manifest."""
        found = dict(self._database.select(_REPOSITORIES, (upstream, after, limit)))
        last = max(found) if len(found) == limit else None
        for row in self._database.unwritten(LINKS):
            name = row.repository
            if row.is_manifest and row.upstream == upstream and after < name and (not last or name <= last):
                is_stored = self._database.get(CONTENT, (row.digest, ContentKind.MANIFEST)) is not None
                found[name] = is_stored or found.get(name, False)
        return [(RepositoryName(name), bool(is_cached)) for name, is_cached in sorted(found.items())[:limit]]

    def current(self, source: RepositoryKey, record: TagRecord) -> TagRecord:
        """Return the record as it is now: its cached manifest may have been evicted since."""
        if record.cached is None or self._is_cached(source, record.cached.descriptor.digest):
            return record
        return TagRecord(pending=record.pending or record.cached)

    def forget_unused(self, idle_seconds: float) -> Iterator[int]:
        """Delete links and tags that were not used for so long, in small slices; yield the number of each.

        Raises:
            OSError: The index cannot be read.
        """
        yield from self._forget_unused(LINKS, idle_seconds)
        yield from self._forget_unused(TAGS, idle_seconds)

    def _forget_unused(self, table: Table[R], idle_seconds: float) -> Iterator[int]:
        before = self._database.now() - idle_seconds
        names = ", ".join(table.row._fields[: table.key_columns])
        sql = (
            f"SELECT {names}, last_used FROM {table.name} "  # noqa: S608
            f"WHERE ({names}) > (?, ?, ?) ORDER BY {names} LIMIT {PAGE_ROWS}"
        )
        for page in self._database.pages(sql, key=slice(3)):
            old = [row[:-1] for row in page if row[-1] < before]
            unused = [key for key in old if self._database.is_unused_since(table, key, before)]
            for key in unused:
                self._database.delete(table, key)
            yield len(unused)

    def _is_cached(self, source: RepositoryKey, digest: Digest) -> bool:
        is_stored = self._database.get(CONTENT, (str(digest), ContentKind.MANIFEST)) is not None
        return is_stored and self.is_linked(source, digest)

    def _pending(self, source: RepositoryKey, digest: str) -> Iterator[TagRow]:
        upstream, repository = source.upstream, str(source.repository)
        for row in self._database.unwritten(TAGS):
            if (row.upstream, row.repository, row.pending_digest) == (upstream, repository, digest):
                yield row
        for values in self._database.select(_PENDING, (upstream, repository, digest)):
            row = TagRow._make(values)
            if not self._database.is_overlaid(TAGS, TAGS.key_of(row)):
                yield row

    def _put_tag(self, key: Key, record: TagRecord) -> None:
        self._database.put(TAGS, TagRow.of(key, record, self._database.now()))


def _link_key(source: RepositoryKey, digest: Digest) -> Key:
    return source.upstream, str(source.repository), str(digest)


def _tag_key(source: RepositoryKey, tag: Tag) -> Key:
    return source.upstream, str(source.repository), str(tag)
