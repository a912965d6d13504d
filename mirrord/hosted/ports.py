"""What pushing needs of the disk and of the collector; `assembly.py` hands in the real ones.

Every method that is not a coroutine answers at once. Every coroutine that writes returns when what it
wrote is durable: fsynced, and in the index. If it raises OSError instead, nothing of it is served.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from mirrord.oci.content import HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag


class RequestBody(Protocol):
    """What a client sends after its head, as it comes."""

    @property
    def length(self) -> int | None:
        """Its bytes; None where only the end will tell."""
        ...

    async def read(self) -> bytes:
        """The next bytes; b"" after the last. The client is asked to send when this is first called.

        Raises:
            CancelledError: The client is gone.
            RequestTimeout: It does not send.
        """
        ...


class UploadFile(Protocol):
    """One session of pushing a blob: bytes in a file of their own, hashed as they are written.

    It belongs to one request at a time, and `release` ends that: the file is closed, the bytes and the
    session stay. Bytes written survive a restart; those of the last seconds need not survive a power cut.
    """

    @property
    def session(self) -> str:
        """Its name in URLs: unguessable, and good for its own repository only."""
        ...

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append; on return `offset` has grown by all of `chunk`.

        Raises:
            OSError: The disk refused; `offset` is as before.
        """

    async def commit(self, digest: Digest) -> None:
        """Make it a blob, linked to its repository; the session is over.

        Raises:
            DigestInvalid: The bytes are not what `digest` names; the session stays.
            OSError: The disk refused; the session stays.
        """

    async def discard(self) -> None:
        """Throw it away; the session is over."""

    def release(self) -> None:
        """Let another request have the session; may be called more than once."""


class UploadSessions(Protocol):
    """Sessions; those that nobody touched for `partials` of the configuration go with a sweep."""

    def begin(self, repository: RepositoryName) -> UploadFile:
        """A new session.

        Raises:
            OSError: The disk refused.
        """
        ...

    def find(self, repository: RepositoryName, session: str) -> UploadFile | None:
        """The session of this name and repository; None if there is none.

        Raises:
            UploadBusy: Another request has it.
        """
        ...


class HostedLinks(Protocol):
    """What hosted repositories hold. One that holds nothing does not exist."""

    def has(self, repository: RepositoryName) -> bool:
        """Whether it holds anything."""
        ...

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        """The next hosted repositories in order of name, `limit` at most."""
        ...

    def link(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> HostedLink | None:
        """What the repository holds under this digest: the manifest, where it holds that and a blob.

        With `is_manifest`, only a link of that kind.
        """
        ...

    def repositories_with(self, digest: Digest) -> Iterator[RepositoryName]:
        """The hosted repositories that hold a blob."""
        ...

    def tag(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        """The manifest that a tag names."""
        ...

    def tags(self, repository: RepositoryName, after: str, limit: int) -> list[str]:
        """The next tags in ASCII order, `limit` at most."""
        ...

    def referrers(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None = None, after: str = ""
    ) -> Iterator[HostedLink]:
        """The manifests whose subject this is, in order of digest and after that one, read as they are taken.

        With `artifact_type`, only those of that type.
        """
        ...

    async def add_blob(self, repository: RepositoryName, descriptor: Descriptor) -> bool:
        """Link a committed blob, for a mount: False if it is committed no longer."""
        ...

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

        The repository has to hold `blobs` as blobs, and `children` as manifests or as blobs.

        Raises:
            ManifestBlobUnknown: It does not, at the moment when all the rest would be written.
        """

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> bool:
        """Remove a tag; False if there was none."""
        ...

    async def delete(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> bool:
        """Remove a blob's or manifest's link, and the tags that name it; False if there was none.

        With `is_manifest`, only a link of that kind.
        """
        ...


class HostedManifestFiles(Protocol):
    """Stored manifests, by digest alone."""

    async def read(self, digest: Digest) -> Manifest | None:
        """A stored manifest, verbatim and verified; None if there is none."""
        ...


class Mirrored(Protocol):
    """What is held of upstreams."""

    def size_of(self, source: RepositoryKey, digest: Digest) -> int | None:
        """The size of a blob that is held, and may be read through `source`; None if there is none."""
        ...


class HostedSpace(Protocol):
    """Who makes room on the disk."""

    async def make_room_for_push(self, size: int) -> bool:
        """Whether `size` more bytes may be pushed: after evicting mirrored content, `min_free` stays free."""
        ...
