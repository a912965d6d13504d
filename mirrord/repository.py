"""Repository: everything that the API and the operator's commands may request of a repository.

A repository is *mirrored* (its content comes from an upstream and may be evicted) or *hosted* (its content
was pushed here and exists nowhere else). Both implement the interface below (`mirrored/repository.py`,
`hosted/repository.py`), and nothing above this module distinguishes them: a difference is expressed as a
result, as an error of the specification, or as a capability (`Repository.writer`).

Results of pulls have a `CacheResult`, because every response reports its cache status. Results of the
operator's commands are plain values; those that `mirrord` prints as JSON are named after the keys of that
JSON.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol

import attrs

from mirrord.oci.cache_status import CacheResult
from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RangeInvalid
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, Tag
from mirrord.oci.routes import ChunkRange, Page


class RangeBody(Protocol):
    """A range of a blob straight from the upstream. Read it to the end, or abort it; abort it in any case."""

    @property
    def offset(self) -> int:
        """The offset in the blob of the first byte."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes; b"" after the last.

        Raises:
            UpstreamError: The transfer broke off.
        """
        ...

    def abort(self) -> None:
        """Close the connection; may be called more than once."""


class BlobReader(Protocol):
    """A blob that can be read: committed, or growing while it is downloaded. Close it after use.

    Offsets count from the blob's first byte. `fd` is this object's own descriptor: read it with offsets
    (pread, sendfile), never beyond `readable`.
    """

    @property
    def size(self) -> int:
        """The size of the whole blob in bytes."""
        ...

    @property
    def body(self) -> bytes | None:
        """The whole blob, if it is committed, small and in memory."""
        ...

    @property
    def fd(self) -> int:
        """The descriptor to read from; opened on first use if `body` is there."""
        ...

    @property
    def readable(self) -> int:
        """The number of bytes that may be sent now: those written, the last one only after verification."""
        ...

    async def grown(self, beyond: int) -> int:
        """Wait until `readable` is greater than `beyond`, and return it. May be cancelled.

        Raises:
            UpstreamError: The download failed; the response must end short of its Content-Length.
        """
        ...

    async def pass_through(self, first: int, stop: int) -> RangeBody | None:
        """Request the bytes from `first` to before `stop` from the upstream; unverified and never stored.

        Return None unless the range is far ahead of the download: the caller then reads the growing file.
        """
        ...

    def close(self) -> None:
        """Release the blob; may be called more than once."""


class RequestBody(Protocol):
    """The body of a client's request, read at the pace of the disk."""

    @property
    def length(self) -> int | None:
        """Its size in bytes; None if that is known at its end only."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes; b"" after the last. The first call sends `100 Continue` if expected.

        Raises:
            CancelledError: The client disconnected.
            RequestTimeout: The client stopped sending.
        """
        ...


@attrs.frozen
class ManifestResult:
    """A verified manifest, for GET."""

    manifest: Manifest
    cache: CacheResult


@attrs.frozen
class DescriptorResult:
    """The descriptor of a manifest, for HEAD."""

    descriptor: Descriptor
    cache: CacheResult


@attrs.frozen
class BlobResult:
    """An open blob, for GET."""

    blob: BlobReader
    cache: CacheResult


@attrs.frozen
class BlobSizeResult:
    """The response to HEAD of a blob that exists; `size` is None if the upstream does not report it."""

    size: int | None
    cache: CacheResult


@attrs.frozen
class TagListResult:
    """The tags of a page, sorted, and one more if there are any after it."""

    tags: tuple[str, ...]
    cache: CacheResult


@attrs.frozen
class ReferrersResult:
    """An image index of referrers, as bytes.

    `is_filtered` is true if the artifact type was applied; `next_after` is the digest after which the next
    page begins, None on the last page.
    """

    body: bytes
    is_filtered: bool
    cache: CacheResult
    next_after: str | None = None


@attrs.frozen
class UploadProgress:
    """An upload session and the number of bytes it has received."""

    session: str
    offset: int


class ChunkOutOfOrder(RangeInvalid):
    """A chunk does not begin where the last one ended, which is at `progress`."""

    def __init__(self, progress: UploadProgress) -> None:
        super().__init__("the chunk does not follow the last one", detail={"offset": progress.offset})
        self.progress = progress


@attrs.frozen
class PushedManifestResult:
    """A manifest that was pushed: its digest, and its subject if it has one."""

    digest: Digest
    subject: Digest | None


@attrs.frozen
class StoredTag:
    """A tag of a repository as it is known here; times are wall clock, in seconds.

    `checked_at` is when it was last confirmed (a hosted tag: pushed), `fresh_until` when it has to be
    revalidated (None: never, it is hosted). `is_stored` is true if its manifest is on the disk.
    """

    tag: Tag
    digest: Digest
    checked_at: float
    fresh_until: float | None
    is_stored: bool
    used_at: float


@attrs.frozen
class StoredContent:
    """One link of a repository, with the kind and size of its content on the disk; None and 0 if absent."""

    kind: ContentKind | None
    size: int
    used_at: float


@attrs.frozen
class TagState:
    """A tag and its freshness; *pending* means seen at the upstream, but its manifest is not stored."""

    digest: Digest
    checked_at: float
    fresh_until: float | None
    state: Literal["fresh", "stale", "pending", "hosted"]


@attrs.frozen
class ManifestState:
    """A manifest of a repository, and whether it is stored."""

    digest: Digest
    media_type: str
    size: int
    is_held: bool


@attrs.frozen
class BlobState:
    """A blob, and where its bytes are: `written` of them are on the disk.

    An unconfirmed one is stored for other repositories; it is served once the upstream has confirmed it.
    """

    digest: Digest
    size: int
    state: Literal["held", "unconfirmed", "downloading", "partial", "absent"]
    written: int


@attrs.frozen
class ReferenceState:
    """The tag, manifest or blob that a reference names in a repository; None where it is not known."""

    digest: Digest | None = None
    tag: TagState | None = None
    manifest: ManifestState | None = None
    blob: BlobState | None = None


@attrs.frozen
class Removal:
    """The tags and digests removed from a repository, and the bytes of the disk that this freed.

    Tags and digests are text, as `oci/graph.py` explains. `bytes` is None if the next sweep frees them.
    """

    repository: RepositoryKey
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    bytes: int | None


class RepositoryWriter(ABC):
    """The operations that change a repository. Changes are durable when a method returns."""

    @abstractmethod
    async def begin_upload(self, client: str) -> UploadProgress:
        """Begin an upload session, which any later request may continue.

        `client` is the name by which the sessions of one client are counted.

        Raises:
            TooManyRequests: The client or the repository has too many.
            Unavailable: There are too many in all.
        """

    @abstractmethod
    def upload_progress(self, session: str) -> UploadProgress:
        """Return the progress of a session.

        Raises:
            BlobUploadUnknown: There is no such session.
        """

    @abstractmethod
    async def append_upload(
        self, session: str, body: RequestBody, chunk: ChunkRange | None
    ) -> UploadProgress:
        """Append a chunk, or a stream of unknown length.

        Raises:
            BlobUploadUnknown: There is no such session.
            ChunkOutOfOrder: The chunk does not begin where the last one ended; nothing was written.
            SizeInvalid: The chunk is not as long as announced, or the blob is too large.
            Unavailable: The disk has no room.
        """

    @abstractmethod
    async def finish_upload(
        self, session: str, digest: Digest, *, body: RequestBody, chunk: ChunkRange | None
    ) -> None:
        """Append the rest and commit the blob.

        Raises:
            DigestInvalid: The bytes do not match `digest`; the session stays.
            RegistryError: As `append_upload`.
        """

    @abstractmethod
    async def cancel_upload(self, session: str) -> None:
        """Discard a session.

        Raises:
            BlobUploadUnknown: There is no such session.
        """

    @abstractmethod
    async def push_blob(self, digest: Digest, body: RequestBody, client: str) -> None:
        """Commit a blob that is sent in one request.

        Raises:
            DigestInvalid: The bytes do not match `digest`; nothing was kept.
            RegistryError: As `begin_upload` and `append_upload`.
        """

    @abstractmethod
    async def mount_blob(
        self, digest: Digest, origin: "Repository | None", may_read: Callable[[RepositoryKey], bool]
    ) -> bool:
        """Link a blob of `origin`, or (None) of any repository that the client may read; return success."""

    @abstractmethod
    async def push_manifest(
        self, reference: Reference, *, tags: Iterable[Tag], content_type: str | None, body: RequestBody
    ) -> PushedManifestResult:
        """Store a manifest under its digest and tag it with `reference`, if that is a tag, and `tags`.

        Raises:
            DigestInvalid: The bytes do not match `reference`.
            ManifestInvalid: The body is not a manifest.
            ManifestBlobUnknown: It references content that the repository does not have.
            SizeInvalid: It is larger than MAX_MANIFEST_BYTES.
            Unavailable: The disk has no room.
        """

    @abstractmethod
    async def delete_manifest(self, reference: Reference) -> None:
        """Delete a tag; or a manifest, with all its tags.

        Raises:
            ManifestUnknown: There is none.
            Unsupported: The configuration does not allow deletion.
        """

    @abstractmethod
    async def delete_blob(self, digest: Digest) -> None:
        """Delete a blob.

        Raises:
            BlobUnknown: There is none.
            Unsupported: The configuration does not allow deletion.
        """


class Repository(ABC):
    """One repository, as the configuration in effect serves it."""

    @property
    @abstractmethod
    def key(self) -> RepositoryKey:
        """The upstream and the name under which its links, tags, metrics and log lines are kept."""

    @property
    def writer(self) -> RepositoryWriter | None:
        """The operations that change it; None if it is read-only."""
        return None

    @abstractmethod
    async def get_manifest(self, reference: Reference) -> ManifestResult:
        """Return the manifest that `reference` names, verified.

        Raises:
            ManifestUnknown, NameUnknown, Denied: The repository, or its upstream, refuses it.
            UpstreamError: The upstream failed and nothing cached may stand in.
        """

    @abstractmethod
    async def head_manifest(self, reference: Reference) -> DescriptorResult:
        """Return the descriptor of what `reference` names; raises as `get_manifest`."""

    @abstractmethod
    async def open_blob(self, digest: Digest, client: str | None = None) -> BlobResult:
        """Open a blob, as soon as its size is known. Close its reader.

        `client` is the name by which the downloads of one client are counted. Without one it is read by a
        background task, whose downloads give way to those of clients: `grown` raises TooManyDownloads then.

        Raises:
            BlobUnknown, NameUnknown, Denied: The repository, or its upstream, refuses it.
            UpstreamError: The upstream failed before the size was known.
            TooManyDownloads: Too many downloads are running.
            Unavailable: The disk failed.
        """

    @abstractmethod
    async def head_blob(self, digest: Digest) -> BlobSizeResult:
        """Return the size of a blob without downloading it; raises as `open_blob`."""

    @abstractmethod
    async def list_tags(self, page: Page) -> TagListResult:
        """Return a page of tags, sorted.

        Raises:
            NameUnknown, Denied: The upstream refuses it.
            UpstreamError: The upstream failed and no list is cached.
        """

    @abstractmethod
    async def list_referrers(
        self, subject: Digest, artifact_type: str | None, after: str = ""
    ) -> ReferrersResult:
        """Return the image index of the manifests that refer to `subject`.

        Raises:
            ManifestUnknown: The upstream has no referrers API; clients then look for the fallback tag.
            UpstreamError: The upstream failed and no list is cached.
        """

    @abstractmethod
    def stored_blob_size(self, digest: Digest) -> int | None:
        """Return the size of a blob that can be read here without an upstream; None if there is none."""

    @abstractmethod
    def stored_tags(self) -> Iterator[list[StoredTag]]:
        """Iterate over the known tags, sorted, a page per item; each page is one short query of the index."""

    @abstractmethod
    def stored_content(self) -> Iterator[list[StoredContent]]:
        """Iterate over the links, a page per item."""

    @abstractmethod
    async def stored_manifest(self, digest: Digest) -> Manifest | None:
        """Read a manifest from the disk; None if it is not there or damaged. Not counted as a use.

        Raises:
            OSError: The disk failed.
        """

    @abstractmethod
    def look_up(self, reference: Reference) -> ReferenceState:
        """Return the state of what a reference names, without any request. Not counted as a use."""

    @abstractmethod
    def blob_state(self, descriptor: Descriptor) -> BlobState:
        """Return where the bytes of a blob of this repository are."""

    @abstractmethod
    def unavailable_because(self, *, is_known: bool, is_complete: bool) -> str | None:
        """Return why a client would not get an image now; None if it would.

        `is_known` is whether the reference names anything here, `is_complete` whether all of it is stored.
        """

    @abstractmethod
    async def remove(self, tag: Tag | None, digest: Digest | None) -> Removal:
        """Remove a digest, else a tag, else (neither is given) the whole repository.

        Raises:
            NameUnknown, ManifestUnknown: Nothing of it is stored.
            OSError: The disk failed.
        """
