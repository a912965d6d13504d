"""The index of hosted repositories: what was pushed to us.

It is read from the file alone, on the reactor, by key, and written by transactions of the writer's: a
change is seen when it is on the disk, by everybody at once, and one that the disk refused was never there.

A blob that no manifest names yet must not go while somebody pushes an image of it. So whoever asks for
its link keeps it for the grace time, as whoever makes it does. That is kept in memory: after a start, all
blobs count as asked for a moment ago. It is a courtesy: what a manifest needs is looked for once more by
the transaction that links it, so that no manifest is ever linked without its parts.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import attrs

from mirrord.oci.content import ContentKind, HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.store import hosted_rows
from mirrord.store.asked import AccessTimes
from mirrord.store.blobs import BlobStore
from mirrord.store.contents import Contents
from mirrord.store.database import Database
from mirrord.store.hosted_rows import HostedLinkRow
from mirrord.store.manifests import ManifestStore
from mirrord.store.schema import PAGE_ROWS

_LINK = "SELECT * FROM hosted_links WHERE repository = ? AND digest = ? ORDER BY is_manifest DESC"
_LINKS_OF = (
    "SELECT * FROM hosted_links WHERE repository = ? AND (digest, is_manifest) > (?, ?) "  # noqa: S608
    f"ORDER BY digest, is_manifest LIMIT {PAGE_ROWS}"
)
_HOLDERS = (
    "SELECT repository FROM hosted_links WHERE digest = ? AND is_manifest = ? AND repository > ? "  # noqa: S608
    f"ORDER BY repository LIMIT {PAGE_ROWS}"
)
_TAGGED = (
    "SELECT media_type, digest, size FROM hosted_tags JOIN hosted_links USING (repository, digest) "
    "WHERE repository = ? AND tag = ? AND is_manifest = 1"
)
_TAGS = "SELECT tag FROM hosted_tags WHERE repository = ? AND tag > ? ORDER BY tag LIMIT ?"
_TAGGED_AT = (
    "SELECT tag, digest, tagged_at FROM hosted_tags WHERE repository = ? AND tag > ? "  # noqa: S608
    f"ORDER BY tag LIMIT {PAGE_ROWS}"
)
_REFERRERS = (
    "SELECT * FROM hosted_links WHERE repository = ?1 AND subject = ?2 AND is_manifest = 1 "
    "AND digest > ?4 AND (?3 IS NULL OR artifact_type = ?3) ORDER BY digest LIMIT 8"
)
"""Few at a time: each may have megabytes of annotations."""
_LINKS = (
    "SELECT repository, digest, is_manifest FROM hosted_links WHERE (repository, digest) > (?, ?) "  # noqa: S608
    f"ORDER BY repository, digest, is_manifest LIMIT {PAGE_ROWS}"
)

T = TypeVar("T")


@attrs.define(eq=False)
class HostedIndex:
    """Links and tags of hosted repositories. `changed` is told of every change."""

    _database: Database
    _contents: Contents
    _blobs: BlobStore
    _manifests: ManifestStore
    _wall_clock: Callable[[], float]
    _changed: Callable[[], None]
    asked: AccessTimes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.asked = AccessTimes(self._database.now())

    def has(self, repository: RepositoryName) -> bool:
        """Whether it holds anything."""
        sql = "SELECT 1 FROM hosted_links WHERE repository = ? LIMIT 1"
        return bool(self._database.select(sql, (str(repository),)))

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        """The next hosted repositories in order of name, `limit` at most."""
        names: list[str] = []
        while len(names) < limit:
            sql = "SELECT min(repository) FROM hosted_links WHERE repository > ?"
            ((name,),) = self._database.select(sql, (names[-1] if names else after,))
            if name is None:
                break
            names.append(name)
        return [RepositoryName(name) for name in names]

    def link(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> HostedLink | None:
        """What the repository holds under this digest: the manifest, where it holds that and a blob.

        With `is_manifest`, only a link of that kind. A blob that was asked for stays for the grace time, and
        so does a manifest where either would do: an index that names it is on its way.
        """
        for row in map(HostedLinkRow._make, self._database.select(_LINK, (str(repository), str(digest)))):
            if is_manifest is None or is_manifest == bool(row.is_manifest):
                is_kept = not row.is_manifest or is_manifest is None
                is_going = is_kept and not self.asked.note(row.repository, row.digest, self._database.now())
                return row.link() if row.is_manifest or not is_going else None
        return None

    def links(self, repository: RepositoryName) -> Iterator[list[HostedLink]]:
        """All that the repository holds, a page an item; to look at it keeps nothing."""
        last: tuple[str, bool] = ("", False)
        while page := self._database.select(_LINKS_OF, (str(repository), *last)):
            rows = [HostedLinkRow._make(row) for row in page]
            yield [row.link() for row in rows]
            last = rows[-1].digest, rows[-1].is_manifest

    def repositories_with(self, digest: Digest, *, is_manifest: bool = False) -> Iterator[RepositoryName]:
        """The hosted repositories that hold a blob, or a manifest."""
        last = ""
        while page := self._database.select(_HOLDERS, (str(digest), is_manifest, last)):
            yield from (RepositoryName(name) for (name,) in page)
            last = page[-1][0]

    def tag(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        """The manifest that a tag names."""
        for media_type, digest, size in self._database.select(_TAGGED, (str(repository), str(tag))):
            return Descriptor(media_type, Digest.parse(digest), size)
        return None

    def tags(self, repository: RepositoryName, after: str, limit: int) -> list[str]:
        """The next tags in ASCII order, `limit` at most."""
        return [tag for (tag,) in self._database.select(_TAGS, (str(repository), after, limit))]

    def tagged(self, repository: RepositoryName) -> Iterator[list[tuple[Tag, Digest, float]]]:
        """All tags, what they name and since when by wall clock; a page an item."""
        last = ""
        while page := self._database.select(_TAGGED_AT, (str(repository), last)):
            yield [(Tag(tag), Digest.parse(digest), tagged_at) for tag, digest, tagged_at in page]
            last = page[-1][0]

    def referrers(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None = None, after: str = ""
    ) -> Iterator[HostedLink]:
        """The manifests whose subject this is, in order of digest and after that one, read as they are taken.

        With `artifact_type`, only those of that type.
        """
        kind = None if artifact_type is None else json.dumps(artifact_type)
        while page := self._database.select(_REFERRERS, (str(repository), str(subject), kind, after)):
            rows = [HostedLinkRow._make(row) for row in page]
            yield from (row.link() for row in rows)
            after = rows[-1].digest

    def lost(self) -> Iterator[list[tuple[RepositoryName, ContentKind, Digest]]]:
        """What repositories should hold, and the disk does not; a page of all links an item."""
        last = ("", "")
        while page := self._database.select(_LINKS, last):
            held = (
                (
                    RepositoryName(repository),
                    ContentKind.MANIFEST if is_manifest else ContentKind.BLOB,
                    Digest.parse(digest),
                )
                for repository, digest, is_manifest in page
            )
            yield [each for each in held if self._contents.get(*each[1:]) is None]
            last = page[-1][:2]

    async def add_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        place: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        """Link a committed blob; False if its file is not there, or is not as long as described.

        `place` puts it there first; from then on nothing takes it away.

        Raises:
            OSError: The disk refused; it is not linked.
        """
        with self._contents.claimed(ContentKind.BLOB, descriptor.digest):
            if place is not None:
                await place()
            if not self._blobs.has(descriptor):
                return False
            link = HostedLink(descriptor, is_manifest=False, linked_at=self._wall_clock())
            row = HostedLinkRow.of(repository, link, self._database.now())
            await self._write(partial(hosted_rows.put_link, row=row))
        return True

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        link: HostedLink,
        tags: Iterable[Tag],
        *,
        blobs: Sequence[Digest] = (),
        children: Sequence[Digest] = (),
    ) -> None:
        """Keep a manifest with its link, the edges to what it references, and its tags: all or nothing.

        The repository has to hold `blobs` as blobs, and `children` as manifests or as blobs; they count as
        asked for.

        Raises:
            ManifestBlobUnknown: It does not; nothing of the manifest is linked.
            OSError: The disk refused; nothing of it is linked, and a sweep takes what was written.
        """
        for needed in (*blobs, *children):
            self.asked.note(str(repository), str(needed), self._database.now())
        named, tags = [each.digest for each in manifest.references()], tuple(tags)

        def link_all(connection: sqlite3.Connection) -> None:
            hosted_rows.require(connection, str(repository), blobs, children)
            hosted_rows.put_manifest(connection, row, named, tags)

        with self._contents.claimed(ContentKind.MANIFEST, manifest.digest):
            await self._manifests.keep(manifest)
            row = HostedLinkRow.of(repository, link, self._database.now())
            await self._write(link_all)

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> bool:
        """Remove a tag; False if there was none.

        Raises:
            OSError: The disk refused; it is there still.
        """
        name, now = str(repository), self._database.now()
        return await self._write(lambda at: hosted_rows.delete_tag(at, name, str(tag), now))

    async def delete(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> bool:
        """Remove a blob's or manifest's link, and the tags that name it; False if there was none.

        With `is_manifest`, only a link of that kind.

        Raises:
            OSError: The disk refused; it is there still.
        """
        kinds = (True, False) if is_manifest is None else (is_manifest,)
        name = str(repository)
        return await self._write(lambda at: hosted_rows.delete_link(at, name, str(digest), kinds))

    async def delete_repository(self, repository: RepositoryName) -> bool:
        """Remove all that a repository holds; False if that was nothing.

        Raises:
            OSError: The disk refused; it is all there still.
        """
        return await self._write(lambda at: hosted_rows.delete_repository(at, str(repository)))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result = await self._database.transact(work)
        self._changed()
        return result
