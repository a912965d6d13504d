"""What pulling needs of the disk, of the network and of the collector.

`assembly.py` hands in the real ones (store/, upstream/, gc/); tests hand in fakes. Every method that
is not a coroutine answers at once, from memory or by one keyed look-up; every coroutine may be
awaited on the reactor and does its slow work elsewhere.
"""

from collections.abc import Iterable
from typing import Protocol

from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag


class OpenBlob(Protocol):
    """A committed blob, open for reading and pinned: it is not collected until it is closed."""

    @property
    def size(self) -> int:
        """Its bytes."""
        ...

    @property
    def body(self) -> bytes | None:
        """All of it, where it is small and in memory."""
        ...

    @property
    def fd(self) -> int:
        """An own file descriptor, closed by `close`; opened on first use where `body` is there."""
        ...

    def close(self) -> None:
        """Unpin and let go; may be called more than once."""


class PartialBlob(Protocol):
    """The uncommitted bytes of one blob: a prefix that grows, hashed as it is written.

    One writer at a time: each coroutine is awaited before the next is begun. After `commit`,
    `discard` or `park` only the readers' own descriptors live on.
    """

    @property
    def offset(self) -> int:
        """Bytes written so far; all of them can be read."""
        ...

    @property
    def is_kept(self) -> bool:
        """Whether `commit` will keep it; if not, the file has no name and goes with its last reader."""
        ...

    def open_reader(self) -> int:
        """A file descriptor of the caller's own, to read with offsets; the caller closes it."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Append and hash; on return `offset` has grown by all of `chunk`.

        Raises:
            OSError: The disk refused, ENOSPC for one; `offset` is as before and the write may be tried again.
        """

    async def is_verified(self) -> bool:
        """Whether the bytes so far are what the digest names."""
        ...

    async def commit(self) -> None:
        """Make it a blob: fsync, rename, fsync of the folder, index. Nothing where `is_kept` is false."""

    async def discard(self) -> None:
        """Throw it away."""

    def park(self) -> None:
        """Let go of it and leave it on the disk, to be resumed by a later `find_partial`."""


class BlobFiles(Protocol):
    """Committed blobs and partials, by digest alone."""

    def size_of(self, digest: Digest) -> int | None:
        """The size of a committed blob; None if there is none."""
        ...

    def open(self, digest: Digest) -> OpenBlob | None:
        """A committed blob, opened; None if there is none."""
        ...

    def find_partial(self, digest: Digest) -> PartialBlob | None:
        """What an earlier download left, to be resumed; its prefix is hashed again before the first write."""
        ...

    def create_partial(self, digest: Digest, *, is_kept: bool) -> PartialBlob:
        """A new, empty partial."""
        ...


class ManifestFiles(Protocol):
    """Stored manifests, by digest alone."""

    async def read(self, digest: Digest) -> Manifest | None:
        """A stored manifest, verbatim and verified; None if there is none. From memory as a rule."""
        ...

    async def store(self, source: RepositoryKey, manifest: Manifest) -> None:
        """Keep a verified manifest: `read` finds it as soon as this was called, the disk has it on return.

        Links it and all that it names to `source` at once; pending tags of `source` that name it become
        held when the disk has it.

        Raises:
            OSError: The disk refused; it is not kept.
        """


class LinkIndex(Protocol):
    """Links and tags. Writes are seen by the next read, and are on the disk a little later."""

    def link(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        """What `source` may read under this digest; None if it is not known to. Counts as a use."""
        ...

    def add_links(self, source: RepositoryKey, descriptors: Iterable[Descriptor]) -> None:
        """Let `source` read these: fetched through it, or named by a manifest fetched through it."""

    def tag(self, source: RepositoryKey, tag: Tag) -> TagRecord | None:
        """What is known of a tag. Counts as a use."""
        ...

    def observe_tag(self, source: RepositoryKey, tag: Tag, sighting: TagObservation) -> TagRecord:
        """Note what the upstream said that a tag names, held if that manifest is stored and linked here."""
        ...

    def delete_tag(self, source: RepositoryKey, tag: Tag) -> None:
        """The upstream says that the tag is gone."""

    def repositories(self, upstream: str, after: str, limit: int) -> list[tuple[RepositoryName, bool]]:
        """The next repositories in order of name, `limit` at most, and whether a manifest of each is held.

        Those of which none is held any more are told too: nobody knows how many there are between two
        that are, and whoever lists them gives others a turn.
        """
        ...


class CacheSpace(Protocol):
    """Who makes room on the disk."""

    async def make_room(self, size: int, digest: Digest | None = None) -> bool:
        """Whether `size` more bytes fit within the limits, after evicting what may go.

        With the digest of a blob they are promised to its partial, and nobody else gets them, until
        it is committed, discarded or parked: create or resume it at once.
        """
        ...

    async def lend_room(self, size: int, digest: Digest) -> bool:
        """Whether the disk can take `size` bytes that will not be kept, beyond the limits for what is.

        Nobody else gets them until the partial of `digest` has ended: create it at once.
        """
        ...

    async def free_in_emergency(self, size: int) -> bool:
        """The disk refused `size` bytes: evict what may go, and say whether trying again makes sense."""
        ...


class BlobBody(Protocol):
    """The bytes of a blob as an upstream sends them. Read it to the end or abort it."""

    @property
    def offset(self) -> int:
        """Where in the blob its first byte stands; 0 where the upstream ignored the range."""
        ...

    @property
    def size(self) -> int | None:
        """The size of the whole blob, as far as the upstream tells."""
        ...

    @property
    def validator(self) -> str | None:
        """A strong ETag with the origin that gave it, for the next `fetch_blob` of the same blob."""
        ...

    async def read(self) -> bytes:
        """The next bytes, 256 KiB at most as a rule; b"" after the last.

        Raises:
            UpstreamError: It broke off, went silent, or ended before its own length.
        """
        ...

    def abort(self) -> None:
        """Close the connection; may be called at any time, also after the end."""


class Upstream(Protocol):
    """A registry we pull from.

    Every coroutine raises `UpstreamError` where the upstream failed and a definite `RegistryError`
    (ManifestUnknown, BlobUnknown, NameUnknown, Denied) where it said no. `budget_seconds` bounds
    all of a call: token, redirects, retries, up to the end of the headers (of a manifest or a list:
    of the body). `attempts` bounds the tries of what may pass by itself.
    """

    @property
    def name(self) -> str:
        """Its name: what `?ns=` says."""
        ...

    def is_degraded(self, *, of_manifests: bool) -> bool:
        """Whether it failed recently, so that cached content should be served without a request."""
        ...

    def mark_degraded(self) -> None:
        """Record that a request went unanswered: serve cached content without a request for a short time."""

    async def resolve(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Descriptor | None:
        """What a reference names, by HEAD; None where the upstream does not say so in its headers."""
        ...

    async def fetch_manifest(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Manifest:
        """A manifest, verified against `reference` if that is a digest, and against the digest header."""
        ...

    async def head_blob(
        self, repository: RepositoryName, digest: Digest, *, budget_seconds: float
    ) -> int | None:
        """That the repository has the blob: its size, None where the upstream does not tell."""
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
        """Ask once for the bytes from `offset` to before `stop`; the body says what really comes."""
        ...

    async def list_tags(self, repository: RepositoryName, *, budget_seconds: float) -> list[str]:
        """All tags of a repository, every page of them, sorted."""
        ...

    async def list_referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, *, budget_seconds: float
    ) -> tuple[bytes, bool]:
        """The image index of what refers to `digest`, all pages; and whether the artifact type was applied.

        Raises:
            ManifestUnknown: The upstream has no referrers API; clients then look for the fallback tag.
        """
        ...
