"""MirroredRepository: a repository whose content comes from an upstream and may be evicted."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Literal

import attrs

from mirrord.mirrored.blobs import BlobDownloads
from mirrord.mirrored.lists import MirroredReferrers, MirroredTags
from mirrord.mirrored.manifests import MirroredManifests
from mirrord.mirrored.ports import BlobFiles, CachedContent, LinkIndex
from mirrord.mirrored.removal import MirroredRemoval
from mirrord.oci.content import CachedTag, ContentKind, TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, Tag
from mirrord.oci.routes import Page
from mirrord.repository import (
    BlobResult,
    BlobSizeResult,
    BlobState,
    DescriptorResult,
    ManifestResult,
    ManifestState,
    ReferenceState,
    ReferrersResult,
    Removal,
    Repository,
    StoredContent,
    StoredTag,
    TagListResult,
    TagState,
)


@attrs.frozen(kw_only=True, eq=False)
class MirroredServices:
    """The objects that all mirrored repositories of one configuration share.

    `problem` returns why no request would be sent to an upstream now, by its name; None if one would.
    `tag_ttl` is in seconds, by the name of the upstream, `default_tag_ttl` that of upstreams no longer
    configured. `now` is the wall clock.
    """

    manifests: MirroredManifests
    blobs: BlobDownloads
    tags: MirroredTags
    referrers: MirroredReferrers
    removal: MirroredRemoval
    index: LinkIndex
    files: BlobFiles
    content: CachedContent
    problem: Callable[[str], str | None]
    tag_ttl: Mapping[str, float]
    default_tag_ttl: float
    now: Callable[[], float]


@attrs.frozen(eq=False)
class MirroredRepository(Repository):
    """One repository of an upstream."""

    _key: RepositoryKey
    _services: MirroredServices

    @property
    def key(self) -> RepositoryKey:
        """The upstream, and the repository's name there."""
        return self._key

    async def get_manifest(self, reference: Reference) -> ManifestResult:
        """Return a manifest: from the cache if fresh, else from the upstream."""
        return await self._services.manifests.get(self._key, reference)

    async def head_manifest(self, reference: Reference) -> DescriptorResult:
        """Return the descriptor of what `reference` names; fetch a manifest only if HEAD does not suffice."""
        return await self._services.manifests.head(self._key, reference)

    async def open_blob(self, digest: Digest, client: str | None = None) -> BlobResult:
        """Open a blob: cached, or growing while it is downloaded."""
        return await self._services.blobs.open(self._key, digest, client)

    async def head_blob(self, digest: Digest) -> BlobSizeResult:
        """Return the size of a blob, without a download."""
        return await self._services.blobs.head(self._key, digest)

    async def list_tags(self, page: Page) -> TagListResult:
        """Return a page of the upstream's tags, without names that could not be pulled.

        Only the names of the page are checked: a list may have tens of thousands.
        """
        names, cache = await self._services.tags.list(self._key)
        rest = names[bisect_right(names, page.last) :] if page.last else names
        stop = None if page.limit is None else page.limit + 1
        return TagListResult(tuple(islice(filter(Tag.is_one, rest), stop)), cache)

    async def list_referrers(
        self, subject: Digest, artifact_type: str | None, after: str = ""
    ) -> ReferrersResult:
        """Return the upstream's index of referrers, in one page."""
        return await self._services.referrers.list(self._key, subject, artifact_type)

    def stored_blob_size(self, digest: Digest) -> int | None:
        """Return the size of a cached blob that is linked here; a mount sends no request to an upstream."""
        if self._services.index.link(self._key, digest) is None:
            return None
        return self._services.files.size_of(digest)

    def stored_tags(self) -> Iterator[list[StoredTag]]:
        """Iterate over the known tags, a page per item."""
        for page in self._services.content.tags(self._key):
            yield [
                self._stored_tag(cached, newest)
                for cached in page
                if (newest := cached.record.newest) is not None
            ]

    def stored_content(self) -> Iterator[list[StoredContent]]:
        """Iterate over the links, a page per item."""
        for page in self._services.content.content_links(self._key):
            yield [StoredContent(link.kind, link.size, link.used_at) for link in page]

    async def stored_manifest(self, digest: Digest) -> Manifest | None:
        """Read a manifest from the disk."""
        return await self._services.content.manifest(digest)

    def look_up(self, reference: Reference) -> ReferenceState:
        """Return the state of what a reference names."""
        if isinstance(reference, Digest):
            manifest = self._manifest_state(reference, None)
            link = self._services.content.link(self._key, reference)
            blob = None if manifest is not None or link is None else self.blob_state(link)
            return ReferenceState(digest=reference, manifest=manifest, blob=blob)
        record = self._services.content.tag(self._key, reference)
        newest = None if record is None else record.newest
        if record is None or newest is None:
            return ReferenceState()
        digest, fresh_until = newest.descriptor.digest, newest.observed_at + self._tag_ttl
        is_fresh = self._services.now() < fresh_until
        tag = TagState(
            digest=digest,
            checked_at=newest.observed_at,
            fresh_until=fresh_until,
            state="pending" if newest is not record.cached else "fresh" if is_fresh else "stale",
        )
        return ReferenceState(
            digest=digest, tag=tag, manifest=self._manifest_state(digest, newest.descriptor)
        )

    def blob_state(self, descriptor: Descriptor) -> BlobState:
        """Return whether a blob is cached, confirmed or not, being downloaded, left unfinished, or absent."""
        digest = descriptor.digest
        size = self._services.content.size_of(ContentKind.BLOB, digest)
        if size is not None:
            is_linked = self._services.content.link(self._key, digest) is not None
            state: Literal["held", "unconfirmed"] = "held" if is_linked else "unconfirmed"
            return BlobState(digest=digest, size=size, state=state, written=size)
        absent = BlobState(digest=digest, size=descriptor.size, state="absent", written=0)
        written = self._services.blobs.written(digest)
        if written is not None:
            return attrs.evolve(absent, state="downloading", written=written)
        written = self._services.content.partial_size(digest)
        return absent if written is None else attrs.evolve(absent, state="partial", written=written)

    def unavailable_because(self, *, is_known: bool, is_complete: bool) -> str | None:
        """Return why the upstream would not be requested now, if that were necessary."""
        return None if is_complete else self._services.problem(self._key.upstream)

    async def remove(self, tag: Tag | None, digest: Digest | None) -> Removal:
        """Remove a digest, else a tag, else the whole repository, from the cache."""
        return await self._services.removal.remove(self._key, tag, digest)

    @property
    def _tag_ttl(self) -> float:
        return self._services.tag_ttl.get(self._key.upstream, self._services.default_tag_ttl)

    def _stored_tag(self, cached: CachedTag, newest: TagObservation) -> StoredTag:
        return StoredTag(
            tag=cached.tag,
            digest=newest.descriptor.digest,
            checked_at=newest.observed_at,
            fresh_until=newest.observed_at + self._tag_ttl,
            is_stored=newest is cached.record.cached,
            used_at=cached.used_at,
        )

    def _manifest_state(self, digest: Digest, observed: Descriptor | None) -> ManifestState | None:
        """Return the state of a manifest; None if the digest is not known to be one."""
        size = self._services.content.size_of(ContentKind.MANIFEST, digest)
        link = self._services.content.link(self._key, digest)
        descriptor = link or observed
        if descriptor is None or (size is None and observed is None):
            return None
        is_held = size is not None and link is not None
        return ManifestState(
            digest=digest, media_type=descriptor.media_type, size=descriptor.size, is_held=is_held
        )
