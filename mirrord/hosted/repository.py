"""HostedRepository: a repository whose content was pushed here.

There is no upstream: the index alone decides what exists. Permission is a link in the index; bytes come from
the same store as mirrored ones. A link whose content cannot be read is a transient error of this registry,
and never a 404, which would mean that it was not pushed.
"""

from collections.abc import Callable, Iterable, Iterator

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import yield_to_reactor
from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.ports import HostedBlobFiles, HostedContent, HostedLinks, HostedManifestFiles
from mirrord.hosted.referrers import HostedReferrers
from mirrord.hosted.uploads import Uploader
from mirrord.oci.cache_status import CacheResult, with_cache_status
from mirrord.oci.content import ContentKind, HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, Unavailable
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag
from mirrord.oci.routes import ChunkRange, Page
from mirrord.repository import (
    BlobResult,
    BlobSizeResult,
    BlobState,
    DescriptorResult,
    ManifestResult,
    ManifestState,
    PushedManifestResult,
    ReferenceState,
    ReferrersResult,
    Removal,
    Repository,
    RepositoryWriter,
    RequestBody,
    StoredContent,
    StoredTag,
    TagListResult,
    TagState,
    UploadProgress,
)

_TAGS_A_SLICE = 1000
"""Tags read between two yields to the reactor: a millisecond or two."""

_with_hit = with_cache_status(lambda _: CacheResult.hit())


@attrs.frozen(kw_only=True, eq=False)
class HostedServices:
    """The objects that all hosted repositories of one configuration share.

    `is_configured` returns whether `[hosted]` still names a repository.
    """

    links: HostedLinks
    content: HostedContent
    blobs: HostedBlobFiles
    manifests: HostedManifestFiles
    referrers: HostedReferrers
    uploader: Uploader
    mounter: Mounter
    pusher: ManifestPusher
    deletion: HostedDeletion

    is_configured: Callable[[RepositoryName], bool]
    clock: IReactorTime


@attrs.frozen(eq=False)
class HostedRepository(Repository, RepositoryWriter):
    """One hosted repository."""

    _key: RepositoryKey
    _services: HostedServices

    @property
    def key(self) -> RepositoryKey:
        """The key of a hosted repository of this name."""
        return self._key

    @property
    def writer(self) -> RepositoryWriter:
        """Itself: hosted repositories accept pushes."""
        return self

    @_with_hit
    async def get_manifest(self, reference: Reference) -> ManifestResult:
        """Return the manifest that `reference` names, with the media type under which it was pushed."""
        descriptor = self._manifest(reference)
        manifest = await self._services.manifests.read(descriptor.digest)
        if manifest is None:
            raise Unavailable("the manifest cannot be read from the disk", detail=str(descriptor.digest))
        return ManifestResult(attrs.evolve(manifest, media_type=descriptor.media_type), CacheResult.hit())

    @_with_hit
    async def head_manifest(self, reference: Reference) -> DescriptorResult:
        """Return the descriptor of what `reference` names; what the disk has lost can be pushed again."""
        descriptor = self._manifest(reference)
        if not self._services.content.has_file(ContentKind.MANIFEST, descriptor.digest):
            raise ManifestUnknown("the disk has lost this manifest; push it again")
        return DescriptorResult(descriptor, CacheResult.hit())

    @_with_hit
    async def open_blob(self, digest: Digest, client: str | None = None) -> BlobResult:
        """Open a blob."""
        self._blob(digest)
        blob = self._services.blobs.open(digest)
        if blob is None:
            raise Unavailable("the blob cannot be read from the disk", detail=str(digest))
        return BlobResult(blob, CacheResult.hit())

    @_with_hit
    async def head_blob(self, digest: Digest) -> BlobSizeResult:
        """Return the size of a blob; what the disk has lost can be pushed again."""
        descriptor = self._blob(digest)
        if not self._services.content.has_file(ContentKind.BLOB, digest):
            raise BlobUnknown("the disk has lost this blob; push it again")
        return BlobSizeResult(descriptor.size, CacheResult.hit())

    @_with_hit
    async def list_tags(self, page: Page) -> TagListResult:
        """Return a page of tags, sorted; none of a repository without content."""
        limit = None if page.limit is None else page.limit + 1
        tags: list[str] = []
        while limit is None or len(tags) < limit:
            count = _TAGS_A_SLICE if limit is None else min(_TAGS_A_SLICE, limit - len(tags))
            found = self._services.links.tags(self._name, tags[-1] if tags else page.last, count)
            tags += found
            if len(found) < count:
                break
            await yield_to_reactor(self._services.clock)
        return TagListResult(tuple(tags), CacheResult.hit())

    @_with_hit
    async def list_referrers(
        self, subject: Digest, artifact_type: str | None, after: str = ""
    ) -> ReferrersResult:
        """Return a page of the manifests that were pushed with this subject; empty if it is unknown."""
        page = await self._services.referrers.page(self._name, subject, artifact_type, after)
        return ReferrersResult(
            page.body, artifact_type is not None, CacheResult.hit(), next_after=page.next_after
        )

    async def begin_upload(self, client: str) -> UploadProgress:
        """Begin an upload session of this client."""
        return await self._services.uploader.begin(self._name, client)

    def upload_progress(self, session: str) -> UploadProgress:
        """Return the progress of a session."""
        return self._services.uploader.progress(self._name, session)

    async def append_upload(
        self, session: str, body: RequestBody, chunk: ChunkRange | None
    ) -> UploadProgress:
        """Append a chunk, or a stream of unknown length."""
        return await self._services.uploader.append(self._name, session, body, chunk)

    async def finish_upload(
        self, session: str, digest: Digest, *, body: RequestBody, chunk: ChunkRange | None
    ) -> None:
        """Append the rest and commit the blob."""
        await self._services.uploader.finish(self._name, session, digest, body=body, chunk=chunk)

    async def cancel_upload(self, session: str) -> None:
        """Discard a session."""
        await self._services.uploader.cancel(self._name, session)

    async def push_blob(self, digest: Digest, body: RequestBody, client: str) -> None:
        """Commit a blob that is sent in one request."""
        await self._services.uploader.push(self._name, digest, body, client)

    async def mount_blob(
        self, digest: Digest, origin: Repository | None, may_read: Callable[[RepositoryKey], bool]
    ) -> bool:
        """Link a blob of `origin`, or (None) of any repository that the client may read."""
        return await self._services.mounter.mount(self._name, digest, origin, may_read)

    async def push_manifest(
        self, reference: Reference, *, tags: Iterable[Tag], content_type: str | None, body: RequestBody
    ) -> PushedManifestResult:
        """Store a manifest with its tags."""
        pushed = await self._services.pusher.push(
            self._name, reference, tags=tags, content_type=content_type, body=body
        )
        return PushedManifestResult(pushed.manifest.digest, pushed.referrer.subject)

    async def delete_manifest(self, reference: Reference) -> None:
        """Delete a tag; or a manifest, with all its tags."""
        await self._services.deletion.delete_manifest(self._name, reference)

    async def delete_blob(self, digest: Digest) -> None:
        """Delete a blob."""
        await self._services.deletion.delete_blob(self._name, digest)

    def stored_blob_size(self, digest: Digest) -> int | None:
        """Return the size of a blob that was pushed or mounted here."""
        link = self._services.links.link(self._name, digest, is_manifest=False)
        return None if link is None else link.descriptor.size

    def stored_tags(self) -> Iterator[list[StoredTag]]:
        """Iterate over the tags, a page per item."""
        for page in self._services.links.tagged(self._name):
            yield [
                StoredTag(
                    tag=tag,
                    digest=digest,
                    checked_at=pushed_at,
                    fresh_until=None,
                    is_stored=self._size_of(ContentKind.MANIFEST, digest) is not None,
                    used_at=pushed_at,
                )
                for tag, digest, pushed_at in page
            ]

    def stored_content(self) -> Iterator[list[StoredContent]]:
        """Iterate over the links, a page per item."""
        for page in self._services.links.links(self._name):
            yield [self._content_of(link) for link in page]

    async def stored_manifest(self, digest: Digest) -> Manifest | None:
        """Read a manifest from the disk."""
        return await self._services.content.manifest(digest)

    def look_up(self, reference: Reference) -> ReferenceState:
        """Return the state of what a reference names."""
        link = self._link(reference)
        if link is None:
            return ReferenceState()
        descriptor = link.descriptor
        if not link.is_manifest:
            return ReferenceState(digest=descriptor.digest, blob=self.blob_state(descriptor))
        tag = None
        if isinstance(reference, Tag):
            tag = TagState(
                digest=descriptor.digest, checked_at=link.linked_at, fresh_until=None, state="hosted"
            )
        manifest = ManifestState(
            digest=descriptor.digest,
            media_type=descriptor.media_type,
            size=descriptor.size,
            is_held=self._size_of(ContentKind.MANIFEST, descriptor.digest) is not None,
        )
        return ReferenceState(digest=descriptor.digest, tag=tag, manifest=manifest)

    def blob_state(self, descriptor: Descriptor) -> BlobState:
        """Return whether a blob is linked and on the disk."""
        size = self._size_of(ContentKind.BLOB, descriptor.digest)
        if size is None or self.stored_blob_size(descriptor.digest) is None:
            return BlobState(digest=descriptor.digest, size=descriptor.size, state="absent", written=0)
        return BlobState(digest=descriptor.digest, size=size, state="held", written=size)

    def unavailable_because(self, *, is_known: bool, is_complete: bool) -> str | None:
        """Return why a client would not get an image."""
        if not self._services.is_configured(self._name):
            return "the configuration no longer hosts this repository"
        if is_known and not is_complete:
            return "some of it is no longer on the disk; push it again"
        return None

    async def remove(self, tag: Tag | None, digest: Digest | None) -> Removal:
        """Remove a digest, else a tag, else the whole repository; the next sweep frees the disk."""
        return await self._services.deletion.remove(self._name, tag, digest)

    @property
    def _name(self) -> RepositoryName:
        return self._key.repository

    def _manifest(self, reference: Reference) -> Descriptor:
        if isinstance(reference, Digest):
            link = self._services.links.link(self._name, reference, is_manifest=True)
            found = None if link is None else link.descriptor
        else:
            found = self._services.links.tag(self._name, reference)
        if found is None:
            raise ManifestUnknown("there is no such manifest in this repository")
        return found

    def _blob(self, digest: Digest) -> Descriptor:
        link = self._services.links.link(self._name, digest, is_manifest=False)
        if link is None:
            raise BlobUnknown("there is no such blob in this repository")
        return link.descriptor

    def _link(self, reference: Reference) -> HostedLink | None:
        if isinstance(reference, Digest):
            return self._services.links.link(self._name, reference)
        tagged = self._services.links.tag(self._name, reference)
        if tagged is None:
            return None
        return self._services.links.link(self._name, tagged.digest, is_manifest=True)

    def _content_of(self, link: HostedLink) -> StoredContent:
        kind = ContentKind.MANIFEST if link.is_manifest else ContentKind.BLOB
        size = self._size_of(kind, link.descriptor.digest)
        return StoredContent(None if size is None else kind, size or 0, link.linked_at)

    def _size_of(self, kind: ContentKind, digest: Digest) -> int | None:
        return self._services.content.size_of(kind, digest)
