"""What the operator's use cases need, in memory: a store to be looked at, pulling, and an audit."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.cache_status import CacheResult
from mirrord.oci.content import CachedTag, ContentKind, ContentLink, Entry, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, RegistryError
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, Tag
from mirrord.oci.platforms import platform_manifests
from mirrord.repository import BlobResult, ManifestResult


@attrs.define(eq=False)
class FakeShelves:
    """Links, tags, manifests and blobs in dictionaries; a page is one item. `reading` are not removed."""

    links: dict[tuple[RepositoryKey, Digest], Descriptor] = attrs.field(factory=dict)
    known: dict[tuple[RepositoryKey, Tag], TagRecord] = attrs.field(factory=dict)
    manifests: dict[Digest, Manifest] = attrs.field(factory=dict)
    blobs: dict[Digest, int] = attrs.field(factory=dict)
    left: dict[Digest, int] = attrs.field(factory=dict)
    reading: dict[Digest, Deferred[None]] = attrs.field(factory=dict)
    trouble: OSError | None = None

    def hold(self, source: RepositoryKey, *manifests: Manifest) -> None:
        """Have manifests, and all blobs that they name, in a repository."""
        for manifest in manifests:
            self.manifests[manifest.digest] = manifest
            for named in (manifest.descriptor, *manifest.references()):
                self.links[source, named.digest] = named
        for (_, digest), descriptor in self.links.items():
            if digest not in self.manifests and "manifest" not in descriptor.media_type:
                self.blobs[digest] = descriptor.size

    async def flush(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def sources(self) -> Iterator[RepositoryKey]:
        yield from sorted({source for source, _ in (*self.links, *self.known)})

    def content_links(self, source: RepositoryKey) -> Iterator[list[ContentLink]]:
        for (of, digest), descriptor in list(self.links.items()):
            if of == source:
                kind = self._kind(digest)
                size = descriptor.size if kind else 0
                yield [
                    ContentLink(
                        descriptor=descriptor,
                        kind=kind,
                        size=size,
                        is_manifest=digest in self.manifests,
                        used_at=50.0,
                    )
                ]

    def tags(self, source: RepositoryKey) -> Iterator[list[CachedTag]]:
        for (of, tag), record in list(self.known.items()):
            if of == source:
                yield [CachedTag(tag, record, 60.0)]

    def tag(self, source: RepositoryKey, tag: Tag) -> TagRecord | None:
        return self.known.get((source, tag))

    def link(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        return self.links.get((source, digest))

    def size_of(self, kind: ContentKind, digest: Digest) -> int | None:
        if kind is ContentKind.BLOB:
            return self.blobs.get(digest)
        manifest = self.manifests.get(digest)
        return None if manifest is None else len(manifest.body)

    def partial_size(self, digest: Digest) -> int | None:
        return self.left.get(digest)

    async def manifest(self, digest: Digest) -> Manifest | None:
        return self.manifests.get(digest)

    def links_to(self, digests: Collection[Digest]) -> Iterator[list[tuple[RepositoryKey, Digest]]]:
        for source, digest in list(self.links):
            yield [(source, digest)] if digest in digests else []

    def unlink(self, source: RepositoryKey, digest: Digest) -> None:
        self.links.pop((source, digest), None)

    def delete_tag(self, source: RepositoryKey, tag: Tag) -> None:
        self.known.pop((source, tag), None)

    async def remove(self, digests: Sequence[Digest]) -> list[Entry]:
        gone = []
        for digest in digests:
            kind = self._kind(digest)
            if kind is not None and digest not in self.reading:
                gone.append(
                    Entry(kind=kind, name=str(digest), size=self.size_of(kind, digest) or 0, idle_seconds=0.0)
                )
                self.blobs.pop(digest, None)
                self.manifests.pop(digest, None)
        return gone

    def is_pinned(self, digest: Digest) -> bool:
        return digest in self.reading

    def when_unpinned(self, digest: Digest) -> Deferred[None]:
        return self.reading[digest]

    def close(self, digest: Digest) -> None:
        """The last reader of a blob has gone."""
        self.reading.pop(digest).callback(None)

    def _kind(self, digest: Digest) -> ContentKind | None:
        if digest in self.manifests:
            return ContentKind.MANIFEST
        return ContentKind.BLOB if digest in self.blobs else None


@attrs.define(eq=False)
class GrowingBlob:
    """A blob of which more comes when the test says so."""

    size: int
    readable: int = 0
    is_closed: bool = False
    body: bytes | None = None
    fd: int = -1
    _waiting: Deferred[int] | None = None

    async def pass_through(self, first: int, stop: int) -> None:
        return None

    async def grown(self, beyond: int) -> int:
        if self.readable <= beyond:
            self._waiting = Deferred()
            await self._waiting
        return self.readable

    def grow(self, readable: int) -> None:
        self.readable = readable
        self._tell(lambda waiting: waiting.callback(readable))

    def fail(self, error: Exception) -> None:
        self._tell(lambda waiting: waiting.errback(error))

    def _tell(self, tell: Any) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            tell(waiting)

    def close(self) -> None:
        self.is_closed = True


@attrs.define(eq=False)
class FakeUpstream:
    """Manifests by reference and blobs by digest, as pulling gives them; `asked` is of whom, for what."""

    manifests: dict[Reference, Manifest] = attrs.field(factory=dict)
    blobs: dict[Digest, GrowingBlob] = attrs.field(factory=dict)
    refusals: dict[RepositoryKey, RegistryError] = attrs.field(factory=dict)
    asked: list[tuple[RepositoryKey, Reference]] = attrs.field(factory=list)

    def add(self, *manifests: Manifest, tag: str | None = None, whole: bool = True) -> None:
        """Have images whose blobs are whole, or still to come; the first one is what the tag names."""
        if tag is not None:
            self.manifests[Tag(tag)] = manifests[0]
        for manifest in manifests:
            self.manifests[manifest.digest] = manifest
            for named in () if platform_manifests(manifest) else manifest.references():
                self.blobs[named.digest] = GrowingBlob(named.size, named.size if whole else 0)

    async def get(self, source: RepositoryKey, reference: Reference) -> ManifestResult:
        self._ask(source, reference)
        if reference not in self.manifests:
            raise ManifestUnknown("no such manifest")
        return ManifestResult(self.manifests[reference], CacheResult.stored())

    async def open(self, source: RepositoryKey, digest: Digest) -> BlobResult:
        self._ask(source, digest)
        if digest not in self.blobs:
            raise BlobUnknown("no such blob")
        return BlobResult(self.blobs[digest], CacheResult.stored())

    def _ask(self, source: RepositoryKey, reference: Reference) -> None:
        self.asked.append((source, reference))
        if source in self.refusals:
            raise self.refusals[source]


@attrs.define(eq=False)
class FakeExamination:
    """One content that is hashed in `slices`; None among them is a disk that fails."""

    slices: list[int | None]
    is_whole: bool
    is_there: bool = True
    is_set_aside: bool = False
    is_closed: bool = False

    async def hash_slice(self) -> int:
        count = self.slices.pop(0) if self.slices else 0
        if count is None:
            raise OSError("it cannot be read")
        return count

    def set_aside(self) -> bool:
        self.is_set_aside = self.is_there
        return self.is_there

    def close(self) -> None:
        self.is_closed = True


@attrs.define(eq=False)
class FakeAudit:
    """Examinations by entry; None: it has gone since it was listed."""

    entries: dict[Entry, FakeExamination | None] = attrs.field(factory=dict)

    @property
    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)

    @property
    def total_entries(self) -> int:
        return len(self.entries)

    def pages(self) -> Iterator[list[Entry]]:
        for entry in self.entries:
            yield [entry]

    def examine(self, entry: Entry) -> FakeExamination | None:
        return self.entries[entry]
