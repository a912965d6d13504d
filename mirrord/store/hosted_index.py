"""The index of hosted repositories: what was pushed to them.

It is read from the file alone, on the reactor, by key, and written by transactions: a change becomes
visible to all readers when it is on the disk, and one that the disk refused never existed.

A blob that no manifest references yet must not be collected while an image that contains it is being
pushed. So a request for its link protects it for the grace time, as its creation does. That is kept in
memory (`AccessTimes`): after a start all blobs count as just requested. It is best effort, because the
transaction that links a manifest checks once more that everything it references is there: no manifest is
ever linked without its parts.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import attrs

from mirrord.oci.content import ContentKind, HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.referrer import NO_REFERRER, Referrer
from mirrord.store import hosted_rows
from mirrord.store.contents import Contents
from mirrord.store.database import Database
from mirrord.store.hosted_facts import BlobLinked, ManifestLinked
from mirrord.store.hosted_files import HostedFiles
from mirrord.store.hosted_rows import HostedLinkRow, HostedTransaction, ManifestDetails
from mirrord.store.manifests import ManifestStore
from mirrord.store.schema import PAGE_ROWS

MAX_ACCESS_TIMES = 5_000
"""About 2 MB; beyond that, blobs are collected later than they could be, never earlier."""

_LINK = "SELECT * FROM hosted_links WHERE repository = ? AND digest = ? ORDER BY is_manifest DESC"
_LINKS_OF = (
    "SELECT * FROM hosted_links WHERE repository = ? AND (digest, is_manifest) > (?, ?) "  # noqa: S608
    f"ORDER BY digest, is_manifest LIMIT {PAGE_ROWS}"
)
_LINKED_FROM = (
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
"""Few rows at a time: each may have megabytes of annotations."""
_LINKS = (
    "SELECT repository, digest, is_manifest FROM hosted_links WHERE (repository, digest) > (?, ?) "  # noqa: S608
    f"ORDER BY repository, digest, is_manifest LIMIT {PAGE_ROWS}"
)


RepositoryDigest = tuple[str, str]
"""A repository and a digest."""


@attrs.define(eq=False)
class AccessTimes:
    """When content of hosted repositories was last requested by clients that push, in service time.

    The number of entries is bounded. Content without an entry counts as requested when the entry was that
    was dropped last, which is never too early.
    """

    _since: float
    _times: dict[RepositoryDigest, float] = attrs.field(factory=dict, init=False)
    _removing: set[RepositoryDigest] = attrs.field(factory=set, init=False)

    def record(self, repository: str, digest: str, now: float) -> bool:
        """Record a request; return False if the content is being removed."""
        key = repository, digest
        if key in self._removing:
            return False
        self._times.pop(key, None)
        self._times[key] = now
        if len(self._times) > MAX_ACCESS_TIMES:
            self._since = max(self._since, self._times.pop(next(iter(self._times))))
        return True

    def last(self, key: RepositoryDigest) -> float:
        """Return when this was last requested, or may have been."""
        return self._times.get(key, self._since)

    def is_known_since(self, key: RepositoryDigest, since: float) -> bool:
        """Return whether there is an entry of a request after that moment."""
        return self._times.get(key, since) > since

    @contextmanager
    def removing(self, keys: Iterable[RepositoryDigest]) -> Iterator[None]:
        """Reject requests for these while they are being removed."""
        removed = set(keys)
        self._removing |= removed
        try:
            yield
        finally:
            self._removing -= removed


@attrs.define(eq=False, kw_only=True)
class HostedIndex:
    """Links and tags of hosted repositories; implements `HostedLinks` of `hosted/ports.py`.

    Coroutines raise OSError if the disk failed; the index is then unchanged.
    """

    _database: Database
    _contents: Contents
    _files: HostedFiles
    _manifests: ManifestStore
    _wall_clock: Callable[[], float]
    access_times: AccessTimes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.access_times = AccessTimes(self._database.now())

    def require_writable(self) -> None:
        """Return if changes are possible, so that nothing is received in vain.

        Raises:
            OSError: The index is damaged.
        """
        self._database.require_intact()

    def has(self, repository: RepositoryName) -> bool:
        """Return whether there is anything in a repository."""
        sql = "SELECT 1 FROM hosted_links WHERE repository = ? LIMIT 1"
        return bool(self._database.select(sql, (str(repository),)))

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        """Return the next hosted repositories in order of name, at most `limit`."""
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
        """Return the repository's link to this digest: to the manifest, if both kinds have it.

        With `is_manifest`, only a link of that kind. A blob that was requested is protected for the grace
        time, and so is a manifest if either kind would do: an index that references it is being pushed.
        """
        for row in map(HostedLinkRow._make, self._database.select(_LINK, (str(repository), str(digest)))):
            if is_manifest is not None and is_manifest != bool(row.is_manifest):
                continue
            if row.is_manifest and is_manifest:
                return row.link()
            is_there = self.access_times.record(row.repository, row.digest, self._database.now())
            return row.link() if row.is_manifest or is_there else None
        return None

    def links(self, repository: RepositoryName) -> Iterator[list[HostedLink]]:
        """Iterate over pages of all links of a repository; this protects nothing."""
        for page in self._database.pages(_LINKS_OF, str(repository), key=slice(1, 3)):
            yield [HostedLinkRow._make(row).link() for row in page]

    def repositories_with(self, digest: Digest, *, is_manifest: bool = False) -> Iterator[RepositoryName]:
        """Iterate over the hosted repositories that have a blob, or a manifest."""
        for page in self._database.pages(_LINKED_FROM, str(digest), is_manifest, key=slice(1)):
            yield from (RepositoryName(name) for (name,) in page)

    def tag(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        """Return the descriptor of the manifest that a tag names."""
        for media_type, digest, size in self._database.select(_TAGGED, (str(repository), str(tag))):
            return Descriptor(media_type, Digest.parse(digest), size)
        return None

    def tags(self, repository: RepositoryName, after: str, limit: int) -> list[str]:
        """Return the next tags in ASCII order, at most `limit`."""
        return [tag for (tag,) in self._database.select(_TAGS, (str(repository), after, limit))]

    def tagged(self, repository: RepositoryName) -> Iterator[list[tuple[Tag, Digest, float]]]:
        """Iterate over pages of all tags, with what they name and since when by wall clock."""
        for page in self._database.pages(_TAGGED_AT, str(repository), key=slice(1)):
            yield [(Tag(tag), Digest.parse(digest), tagged_at) for tag, digest, tagged_at in page]

    def referrers(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None = None, after: str = ""
    ) -> Iterator[HostedLink]:
        """Iterate over the manifests with this subject, in order of digest and after that one, lazily.

        With `artifact_type`, only those of that type.
        """
        kind = None if artifact_type is None else json.dumps(artifact_type)
        while page := self._database.select(_REFERRERS, (str(repository), str(subject), kind, after)):
            rows = [HostedLinkRow._make(row) for row in page]
            yield from (row.link() for row in rows)
            after = rows[-1].digest

    def lost(self) -> Iterator[list[tuple[RepositoryName, ContentKind, Digest]]]:
        """Iterate over what is linked but not on the disk; one page of all links per item."""
        for page in self._database.pages(_LINKS, key=slice(2)):
            linked = (
                (
                    RepositoryName(repository),
                    ContentKind.MANIFEST if is_manifest else ContentKind.BLOB,
                    Digest.parse(digest),
                )
                for repository, digest, is_manifest in page
            )
            yield [each for each in linked if self._contents.get(*each[1:]) is None]

    async def add_blob(self, repository: RepositoryName, descriptor: Descriptor) -> bool:
        """Link a committed blob; return False if its file is missing, or not as long as described."""
        self.require_writable()
        async with self._contents.claimed(ContentKind.BLOB, descriptor.digest):
            was_cached = self._contents.is_cached(ContentKind.BLOB, descriptor.digest)
            if not await self._files.provide(descriptor):
                return False
            await self.link_blob(repository, descriptor)
            if was_cached:
                await self._files.drop_cached(ContentKind.BLOB, descriptor.digest)
        return True

    async def link_blob(self, repository: RepositoryName, descriptor: Descriptor) -> None:
        """Link a blob whose file the caller has claimed and put into the hosted folder."""
        fact = BlobLinked(
            repository=str(repository),
            digest=str(descriptor.digest),
            size=descriptor.size,
            linked_at=self._wall_clock(),
            touched=self._database.now(),
        )
        await self._database.transact(lambda transaction: transaction.change(fact))

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tags: Iterable[Tag],
        *,
        referrer: Referrer = NO_REFERRER,
        blobs: Sequence[Digest] = (),
        children: Sequence[Digest] = (),
    ) -> None:
        """Store a manifest with its link, the edges to what it references, and its tags: all or nothing.

        The repository must have `blobs` as blobs, and `children` as manifests or as blobs; they count as
        requested.

        Raises:
            ManifestBlobUnknown: It lacks one of them; nothing of the manifest is linked.
        """
        self.require_writable()
        for needed in (*blobs, *children):
            self.access_times.record(str(repository), str(needed), self._database.now())
        references, tags = tuple(each.digest for each in manifest.references()), tuple(tags)
        details = ManifestDetails(references=references, referrer=referrer)

        def link_all(transaction: HostedTransaction) -> None:
            hosted_rows.require(transaction, str(repository), blobs, children)
            hosted_rows.put_manifest(transaction, fact, details, tags)

        async with self._contents.claimed(ContentKind.MANIFEST, manifest.digest):
            was_cached = self._contents.is_cached(ContentKind.MANIFEST, manifest.digest)
            await self._manifests.store_hosted(manifest)
            fact = ManifestLinked(
                repository=str(repository),
                digest=str(manifest.digest),
                media_type=manifest.media_type,
                size=len(manifest.body),
                linked_at=self._wall_clock(),
                touched=self._database.now(),
            )
            await self._database.transact(link_all)
            if was_cached:
                await self._files.drop_cached(ContentKind.MANIFEST, manifest.digest)

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> bool:
        """Delete a tag; return False if there was none."""
        name, now = str(repository), self._database.now()
        return await self._database.transact(lambda at: hosted_rows.delete_tag(at, name, str(tag), now))

    async def delete(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> bool:
        """Delete a blob's or manifest's link, and the tags that name it; return False if there was none.

        With `is_manifest`, only a link of that kind.
        """
        kinds = (True, False) if is_manifest is None else (is_manifest,)
        name = str(repository)
        return await self._database.transact(lambda at: hosted_rows.delete_link(at, name, str(digest), kinds))

    async def delete_repository(self, repository: RepositoryName) -> bool:
        """Delete all links and tags of a repository; return False if there were none."""
        return await self._database.transact(lambda at: hosted_rows.delete_repository(at, str(repository)))
