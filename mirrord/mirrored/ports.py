"""The disk, the network and the collector, as mirrored repositories need them.

`daemon/` passes in the real objects (store/, upstream/, gc/). Methods that are not coroutines return at once,
from memory or by one look-up in the index; coroutines may be awaited on the reactor and do their slow work
elsewhere.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from mirrord.oci.content import CachedTag, ContentKind, ContentLink, Entry, TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag
from mirrord.repository import BlobReader


class PartialBlob(Protocol):
    """The uncommitted bytes of one blob: a prefix that grows, hashed as it is written.

    There is one writer at a time: each coroutine is awaited, or cancelled, before the next is called. After
    `commit`, `discard` or `park` only the readers' own descriptors stay valid.
    """

    @property
    def offset(self) -> int:
        """The number of bytes written so far; all of them can be read."""
        ...

    @property
    def is_kept(self) -> bool:
        """Whether `commit` keeps it; if not, the nameless file is gone when its last reader closes it."""
        ...

    def open_reader(self) -> int:
        """Return a file descriptor of the caller's own, to read with offsets; close it by `close_reader`."""
        ...

    def close_reader(self, fd: int) -> None:
        """Close a descriptor from `open_reader`, also after the end of this object."""

    async def write(self, chunk: bytes) -> None:
        """Append and hash; on return `offset` has grown by the length of `chunk`.

        Raises:
            OSError: The write failed (ENOSPC, for one); `offset` is unchanged and it may be retried.
        """

    async def is_verified(self) -> bool:
        """Return whether the bytes so far match the digest."""
        ...

    async def commit(self) -> None:
        """Make it a blob: fsync, rename, fsync of the folder, index. Does nothing unless `is_kept`."""

    async def detach(self) -> None:
        """Delete its name: it can be written and read to its end as before, and is not kept."""

    async def discard(self) -> None:
        """Delete it."""

    async def park(self) -> None:
        """Close it and leave it on the disk, to be resumed by a later `find_partial`."""


class BlobFiles(Protocol):
    """Committed blobs and partials, by digest alone."""

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a committed blob; None if there is none."""
        ...

    def open(self, digest: Digest) -> BlobReader | None:
        """Open a committed blob, which is not evicted until it is closed; None if there is none."""
        ...

    async def find_partial(self, digest: Digest) -> PartialBlob | None:
        """Return the partial of an earlier download; its prefix is hashed before the first write."""
        ...

    async def create_partial(self, digest: Digest, *, is_kept: bool) -> PartialBlob:
        """Return a new, empty partial.

        Raises:
            OSError: The disk failed.
        """
        ...


class ManifestFiles(Protocol):
    """Stored manifests, by digest alone."""

    async def read(self, digest: Digest) -> Manifest | None:
        """Return a stored manifest, verbatim and verified; None if there is none. Usually from memory."""
        ...

    async def store(self, key: RepositoryKey, manifest: Manifest) -> None:
        """Store a verified manifest: `read` finds it from the call on, the disk has it on return.

        Links it to `key` at once, but nothing that it references; pending tags of `key` that name it become
        cached when the disk has it.

        Raises:
            OSError: The disk failed; it is not stored.
        """


class LinkIndex(Protocol):
    """Links and tags. Writes are visible to the next read, and reach the disk a little later."""

    def link(self, key: RepositoryKey, digest: Digest) -> Descriptor | None:
        """Return the descriptor of what a repository may read under this digest; None without a link.

        Counts as a use.
        """
        ...

    def is_linked(self, key: RepositoryKey, digest: Digest) -> bool:
        """Return whether a repository has a link to this digest. Does not count as a use."""
        ...

    def add_links(self, key: RepositoryKey, descriptors: Iterable[Descriptor]) -> None:
        """Let a repository read content that its upstream has answered for."""

    def tag(self, key: RepositoryKey, tag: Tag) -> TagRecord | None:
        """Return the observations of a tag; None if there are none. Counts as a use."""
        ...

    def observe_tag(self, key: RepositoryKey, tag: Tag, observation: TagObservation) -> TagRecord:
        """Record what a tag names at the upstream; it is cached if that manifest is stored and linked."""
        ...

    def delete_tag(self, key: RepositoryKey, tag: Tag) -> None:
        """Delete a tag, which the upstream no longer has."""


class CachedContent(Protocol):
    """The store for the operator's commands, page by page; reading it does not count as a use."""

    async def flush(self) -> None:
        """Bring the lists up to date.

        Raises:
            OSError: The disk failed; the lists stay as they are.
        """

    def content_links(self, key: RepositoryKey) -> Iterator[list[ContentLink]]:
        """Iterate over the links of a repository, a page per item."""
        ...

    def tags(self, key: RepositoryKey) -> Iterator[list[CachedTag]]:
        """Iterate over the tags of a repository, sorted, a page per item."""
        ...

    def tag(self, key: RepositoryKey, tag: Tag) -> TagRecord | None:
        """Return the observations of a tag; None if there are none."""
        ...

    def link(self, key: RepositoryKey, digest: Digest) -> Descriptor | None:
        """Return the descriptor of what a repository may read under this digest; None without a link."""
        ...

    def size_of(self, kind: ContentKind, digest: Digest) -> int | None:
        """Return the size of stored content in bytes; None if it is not stored."""
        ...

    def partial_size(self, digest: Digest) -> int | None:
        """Return the size of the partial that an unfinished download left; None if there is none."""
        ...

    async def manifest(self, digest: Digest) -> Manifest | None:
        """Return a stored manifest; None if there is none, or it is damaged."""
        ...

    def links_to(self, digests: Collection[Digest]) -> Iterator[list[tuple[RepositoryKey, Digest]]]:
        """Iterate over the links to this content, some per item; a pair may occur more than once."""
        ...

    def unlink(self, key: RepositoryKey, digest: Digest) -> None:
        """Remove a link: the next pull has to be confirmed by the upstream."""

    def delete_tag(self, key: RepositoryKey, tag: Tag) -> None:
        """Delete a tag."""

    async def remove(self, digests: Sequence[Digest]) -> list[Entry]:
        """Remove content from the disk, except what is being read, and return what was removed."""
        ...

    def is_pinned(self, digest: Digest) -> bool:
        """Return whether a client reads this blob now."""
        ...

    def when_unpinned(self, digest: Digest) -> Deferred[None]:
        """Return a Deferred that fires when no client reads this blob."""
        ...


class CacheSpace(Protocol):
    """Makes room on the disk.

    The cache's limits apply to what is kept. A stream that is not kept may use what the disk has left.
    """

    def can_fit(self, size: int, digest: Digest, *, is_kept: bool) -> bool:
        """Return whether `size` more bytes of a blob would fit if all were evicted that may be evicted.

        This cancels what was reserved for the blob.
        """
        ...

    async def make_room(
        self, size: int, digest: Digest | None = None, *, is_kept: bool = True, may_evict: bool = True
    ) -> bool:
        """Return whether `size` more bytes fit, after evicting what may be evicted if `may_evict`.

        With the digest of a blob they are reserved for its partial until it has written them, or has ended.
        This replaces what was reserved for it before.
        """
        ...

    async def free_in_emergency(self, size: int) -> bool:
        """Evict what may be evicted, after a write of `size` bytes failed; return whether to retry it."""
        ...


class BlobBody(Protocol):
    """The bytes of a blob as an upstream sends them. Read it to the end, or abort it."""

    @property
    def offset(self) -> int:
        """The offset in the blob of the first byte; 0 if the upstream ignored the range."""
        ...

    @property
    def size(self) -> int | None:
        """The size of the whole blob; None if the upstream does not report it."""
        ...

    @property
    def validator(self) -> str | None:
        """A strong ETag with the origin that sent it, for the next `fetch_blob` of the same blob."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes, usually 256 KiB at most; b"" after the last.

        Raises:
            UpstreamError: The transfer broke off, stalled, or ended before its own length.
        """
        ...

    def abort(self) -> None:
        """Close the connection; may be called at any time, also after the end."""


class Upstream(Protocol):
    """A registry that content is pulled from.

    Every coroutine raises `UpstreamError` if the upstream failed, and a definite `RegistryError`
    (ManifestUnknown, BlobUnknown, NameUnknown, Denied) if it refused. `budget_seconds` bounds all of a call:
    token, redirects and retries, up to the end of the headers (of a manifest or a list: of the body).
    `attempts` bounds the retries of what may pass by itself.
    """

    def is_degraded(self, *, of_manifests: bool) -> bool:
        """Return whether it failed recently, so that cached content should be served without a request."""
        ...

    def mark_degraded(self) -> None:
        """Record that a request got no response: serve cached content without a request for a short time."""

    async def resolve(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Descriptor | None:
        """Return the descriptor of what a reference names, by HEAD; None if the response has no digest."""
        ...

    async def fetch_manifest(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Manifest:
        """Return a manifest, verified against `reference` if it is a digest, and the digest header."""
        ...

    async def head_blob(
        self, repository: RepositoryName, digest: Digest, *, budget_seconds: float
    ) -> int | None:
        """Return the size of a blob that the repository has, None if the upstream does not report it."""
        ...

    async def fetch_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        offset: int = 0,
        stop: int | None = None,
        validator: str | None = None,
        budget_seconds: float,
    ) -> BlobBody:
        """Request the bytes from `offset` to before `stop`, once; the body may begin elsewhere."""
        ...

    async def list_tags(self, repository: RepositoryName, *, budget_seconds: float) -> list[str]:
        """Return all tags of a repository, every page of them, sorted."""
        ...

    async def list_referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, *, budget_seconds: float
    ) -> tuple[bytes, bool]:
        """Return the index of what refers to `digest`, and whether the artifact type was applied.

        Raises:
            ManifestUnknown: The upstream has no referrers API; clients then look for the fallback tag.
        """
        ...
