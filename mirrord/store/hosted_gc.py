"""Hosted content as the collector sees it.

Hosted content is never evicted for space or age of use. What is collected is blobs that no manifest
references, manifests and tags selected by the operator's retention rules, and content whose last link is
gone. Each page is a small query, and each removal is checked again by the transaction that does it.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import attrs

from mirrord.oci.content import ContentKind, Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.store import hosted_rows
from mirrord.store.browser import StoreBrowser
from mirrord.store.contents import Contents
from mirrord.store.database import Database
from mirrord.store.eviction import EvictionStore
from mirrord.store.hosted_files import HostedFiles
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.hosted_rows import IS_REFERENCED
from mirrord.store.layout import footprint
from mirrord.store.quarantine import Quarantine
from mirrord.store.schema import CONTENT, PAGE_ROWS
from mirrord.store.uploads import Uploads

MANIFESTS_A_PAGE = 32
"""A manifest may reference thousands of others."""

_BLOBS = (
    f"SELECT repository, digest, is_manifest = 0 AND touched <= ?1 AND NOT {IS_REFERENCED.format('page')} "  # noqa: S608
    "FROM (SELECT repository, digest, is_manifest, touched FROM hosted_links "
    "WHERE (repository, digest) > (?2, ?3) "
    f"ORDER BY repository, digest, is_manifest LIMIT {PAGE_ROWS}) AS page"
)
_UNLINKED = (
    "SELECT digest, kind, size, NOT EXISTS (SELECT 1 FROM hosted_links AS link "  # noqa: S608
    "WHERE link.digest = page.digest AND link.is_manifest = (page.kind = 'manifest')) FROM "
    "(SELECT digest, kind, size FROM content WHERE is_hosted = 1 AND (digest, kind) > (?, ?) "
    f"ORDER BY digest, kind LIMIT {PAGE_ROWS}) AS page"
)
_MANIFESTS = (
    "SELECT digest, size, touched, subject FROM hosted_links WHERE repository = ? AND digest > ? "  # noqa: S608
    f"AND is_manifest = 1 ORDER BY digest LIMIT {MANIFESTS_A_PAGE}"
)
_CHILDREN = (
    "SELECT edge.parent, edge.child FROM hosted_edges AS edge JOIN hosted_links AS link "
    "ON link.repository = edge.repository AND link.digest = edge.child AND link.is_manifest = 1 "
    "WHERE edge.repository = ? AND edge.parent BETWEEN ? AND ?"
)
_TAGS = (
    "SELECT tag, digest, touched FROM hosted_tags WHERE repository = ? AND tag > ? "  # noqa: S608
    f"ORDER BY tag LIMIT {PAGE_ROWS}"
)


@attrs.define(eq=False, kw_only=True)
class HostedGCStore:
    """Links, tags and content of hosted repositories, and abandoned uploads.

    Implements `CollectableHostedContent` of `gc/ports.py`, and the graph of `hosted/ports.py`. Where the disk
    fails a coroutine raises OSError.
    """

    _database: Database
    _contents: Contents
    _hosted: HostedIndex
    _uploads: Uploads
    _eviction: EvictionStore
    _browser: StoreBrowser
    _files: HostedFiles
    _quarantine: Quarantine

    @property
    def total_bytes(self) -> int:
        """The disk space of hosted blobs, hosted manifests and uploads."""
        return self._contents.hosted.bytes + self._uploads.total_bytes

    @property
    def total_entries(self) -> int:
        """The number of hosted blobs and manifests."""
        return self._contents.hosted.entries

    def expired_uploads(self, idle_seconds: float) -> list[str]:
        """Return the uploads that have been idle for so long."""
        return self._uploads.expired(idle_seconds)

    async def remove_uploads(self, names: Sequence[str]) -> int:
        """Delete a few uploads, unless they are in use again; return how many bytes that frees."""
        return await self._uploads.remove(names)

    def unreferenced(self, grace_seconds: float) -> Iterator[list[tuple[RepositoryName, Digest]]]:
        """Iterate over pages of blobs that no manifest of their repository references.

        Those that were pushed or requested within the grace time are left out.
        """
        before = self._database.now() - grace_seconds
        for page in self._database.pages(_BLOBS, before, key=slice(2)):
            yield [
                (RepositoryName(repository), Digest.parse(digest))
                for repository, digest, is_idle in page
                if is_idle and self._hosted.access_times.last((repository, digest)) <= before
            ]

    async def unlink(self, blobs: Sequence[tuple[RepositoryName, Digest]], grace_seconds: float) -> int:
        """Delete the links of these blobs, as far as they are still unreferenced; return how many."""
        before = self._database.now() - grace_seconds
        access_times = self._hosted.access_times
        keys = [(str(repository), str(digest)) for repository, digest in blobs]
        keys = [key for key in keys if access_times.last(key) <= before]
        with access_times.removing(keys):
            return await self._database.transact(
                partial(hosted_rows.unlink_unreferenced, links=keys, before=before)
            )

    def unlinked(self) -> Iterator[list[Entry]]:
        """Iterate over pages of hosted content that no hosted repository links to."""
        for page in self._database.pages(_UNLINKED, key=slice(2)):
            yield [
                Entry(kind=ContentKind(kind), name=digest, size=footprint(size), idle_seconds=0.0)
                for digest, kind, size, is_unlinked in page
                if is_unlinked and not self._database.is_overlaid(CONTENT, (digest, kind))
            ]

    def mirrored(self, entries: Sequence[Entry]) -> Iterator[set[str]]:
        """Iterate over mirrored repositories; yield the names of those entries that each links to."""
        for links in self._browser.links_to([Digest.parse(entry.name) for entry in entries]):
            yield {str(digest) for _, digest in links}

    async def remove(self, entries: Sequence[Entry]) -> list[Entry]:
        """Delete content, unless a hosted repository links to it again; return what was deleted."""
        self._database.require_intact()
        return await self._eviction.remove(entries)

    async def return_to_cache(self, entries: Sequence[Entry]) -> list[Entry]:
        """Move content to the cache, where it stays as long as it is used; return what has no room there."""
        self._database.require_intact()
        return await self._files.return_to_cache(entries)

    async def remove_quarantined(self) -> int:
        """Delete what was in quarantine for 30 days; return how many files."""
        return await self._quarantine.remove_expired()

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        """Return the next hosted repositories in order of name, at most `limit`."""
        return self._hosted.repositories(after, limit)

    def manifests(self, repository: RepositoryName) -> Iterator[list[HostedManifest]]:
        """Iterate over pages of the manifests of a repository."""
        name, now = str(repository), self._database.now()
        for page in self._database.pages(_MANIFESTS, name, key=slice(1)):
            children: dict[str, list[Digest]] = {}
            for parent, child in self._database.select(_CHILDREN, (name, page[0][0], page[-1][0])):
                children.setdefault(parent, []).append(Digest.parse(child))
            yield [
                HostedManifest(
                    digest=Digest.parse(digest),
                    size=size,
                    idle_seconds=now - touched,
                    subject=None if subject is None else Digest.parse(subject),
                    children=tuple(children.get(digest, ())),
                )
                for digest, size, touched, subject in page
            ]

    def tags(self, repository: RepositoryName) -> Iterator[list[HostedTag]]:
        """Iterate over pages of the tags of a repository."""
        now = self._database.now()
        for page in self._database.pages(_TAGS, str(repository), key=slice(1)):
            yield [HostedTag(Tag(tag), Digest.parse(digest), now - touched) for tag, digest, touched in page]

    async def apply_plan(self, plan: RetentionPlan, grace_seconds: float = 0.0) -> tuple[int, int]:
        """Delete tags, and then manifests that nothing needs any more; return how many of both.

        Manifests that an index being pushed requested within the grace time stay, with their tags.
        """
        name, before = str(plan.repository), self._database.now() - grace_seconds
        spared = {
            manifest.digest
            for manifest in plan.manifests
            if self._hosted.access_times.is_known_since((name, str(manifest.digest)), before)
        }
        plan = attrs.evolve(
            plan,
            tags=tuple(tag for tag in plan.tags if tag.digest not in spared),
            manifests=tuple(one for one in plan.manifests if one.digest not in spared),
        )
        now = self._database.now()
        return await self._database.transact(partial(hosted_rows.apply_plan, plan=plan, now=now))
