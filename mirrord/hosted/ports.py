"""The disk and the collector, as hosted repositories need them.

Methods that are not coroutines return at once. Coroutines that write return when the data is durable:
fsynced, and in the index. If one raises OSError, nothing that it would have written is served.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from mirrord.oci.content import ContentKind, HostedLink, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.referrer import Referrer
from mirrord.repository import BlobReader


class UploadFile(Protocol):
    """One upload session: bytes in a file of their own, hashed as they are written.

    It belongs to one request at a time. `release` ends that: the file is closed, its bytes and the session
    stay. Written bytes survive a restart; those of the last seconds may not survive a power cut.
    """

    @property
    def session(self) -> str:
        """Its name in URLs: unguessable, and valid for its own repository only."""
        ...

    @property
    def offset(self) -> int:
        """The number of bytes written so far."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append; on return `offset` has grown by the length of `chunk`.

        Raises:
            OSError: The write failed; `offset` is unchanged.
        """

    async def commit(self, digest: Digest) -> None:
        """Make it a blob that is linked to its repository, and end the session.

        Raises:
            DigestInvalid: The bytes do not match `digest`; the session stays.
            OSError: The disk failed; the session stays.
        """

    async def discard(self) -> None:
        """Delete it, and end the session."""

    def release(self) -> None:
        """Make the session available to other requests; may be called more than once."""


class UploadSessions(Protocol):
    """All sessions; a sweep removes those that were idle for `partials` of the configuration."""

    async def begin(self, repository: RepositoryName, client: str) -> UploadFile:
        """Return a new session; `client` is the name by which those of one client are counted.

        Raises:
            TooManyRequests: The client or the repository has too many.
            Unavailable: There are too many in all.
            OSError: The disk failed.
        """
        ...

    def offset(self, repository: RepositoryName, session: str) -> int | None:
        """Return the number of bytes of a session; None if there is none.

        Raises:
            UploadBusy: A request uses it.
        """
        ...

    async def find(self, repository: RepositoryName, session: str) -> UploadFile | None:
        """Return the session of this name and repository; None if there is none.

        Raises:
            UploadBusy: Another request uses it.
        """
        ...


class HostedLinks(Protocol):
    """The links and tags of hosted repositories. A repository without links does not exist."""

    def link(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> HostedLink | None:
        """Return the link of a digest: the manifest's if the repository has that and a blob.

        With `is_manifest`, only a link of that kind.
        """
        ...

    def links(self, repository: RepositoryName) -> Iterator[list[HostedLink]]:
        """Iterate over all links of a repository, a page per item."""
        ...

    def repositories_with(self, digest: Digest, *, is_manifest: bool = False) -> Iterator[RepositoryName]:
        """Iterate over the hosted repositories that have a blob, or a manifest."""
        ...

    def tag(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        """Return the descriptor of the manifest that a tag names."""
        ...

    def tags(self, repository: RepositoryName, after: str, limit: int) -> list[str]:
        """Return the next tags in ASCII order, `limit` at most."""
        ...

    def tagged(self, repository: RepositoryName) -> Iterator[list[tuple[Tag, Digest, float]]]:
        """Iterate over all tags, what they name and since when (wall clock), a page per item."""
        ...

    def referrers(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None = None, after: str = ""
    ) -> Iterator[HostedLink]:
        """Iterate over the manifests with this subject after the digest `after`, in order of digest.

        With `artifact_type`, only those of that type. They are read as they are consumed.
        """
        ...

    async def add_blob(self, repository: RepositoryName, descriptor: Descriptor) -> bool:
        """Link a committed blob, for a mount; False if it is no longer committed."""
        ...

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tags: Iterable[Tag],
        *,
        referrer: Referrer = ...,
        blobs: Sequence[Digest] = (),
        children: Sequence[Digest] = (),
    ) -> None:
        """Store a manifest with its link, the edges to what it references, and its tags: all or nothing.

        Raises:
            ManifestBlobUnknown: When all the rest would be written, the repository does not have `blobs` as
                blobs and `children` as manifests or blobs.
        """

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> bool:
        """Remove a tag; False if there was none."""
        ...

    async def delete(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> bool:
        """Remove the link of a blob or a manifest, and the tags that name it; False if there was none.

        With `is_manifest`, only a link of that kind.
        """
        ...

    async def delete_repository(self, repository: RepositoryName) -> bool:
        """Remove all links and tags of a repository; False if there were none."""
        ...


class HostedGraph(Protocol):
    """A hosted repository as a graph of manifests; each page is one short query of the index."""

    def manifests(self, repository: RepositoryName) -> Iterator[list[HostedManifest]]:
        """Iterate over the manifests of a repository, a page per item."""
        ...

    def tags(self, repository: RepositoryName) -> Iterator[list[HostedTag]]:
        """Iterate over the tags of a repository, a page per item."""
        ...

    async def apply_plan(self, plan: RetentionPlan) -> tuple[int, int]:
        """Remove the tags and then the unneeded manifests of a plan; return the counts."""
        ...


class HostedManifestFiles(Protocol):
    """Stored manifests, by digest alone."""

    async def read(self, digest: Digest) -> Manifest | None:
        """Return a stored manifest, verbatim and verified; None if there is none."""
        ...


class HostedBlobFiles(Protocol):
    """Committed blobs, by digest alone."""

    def open(self, digest: Digest) -> BlobReader | None:
        """Open a committed blob; None if there is none."""
        ...


class HostedContent(Protocol):
    """The store for the operator's commands; reading it does not count as a use."""

    def size_of(self, kind: ContentKind, digest: Digest) -> int | None:
        """Return the size of stored content; None if it is not stored."""
        ...

    def has_file(self, kind: ContentKind, digest: Digest) -> bool:
        """Return whether the disk itself has stored content, in full length."""
        ...

    async def manifest(self, digest: Digest) -> Manifest | None:
        """Return a stored manifest; None if there is none, or it is damaged."""
        ...


class HostedSpace(Protocol):
    """Makes room on the disk."""

    async def make_room_for_push(self, size: int) -> bool:
        """Evict mirrored content for `size` more bytes; return whether `min_free` then stays free."""
        ...
