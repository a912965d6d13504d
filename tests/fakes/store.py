"""A fake store in memory, behind the ports of pulling: blobs, manifests, index, room."""

import os
from collections.abc import Iterable

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag


@attrs.define(eq=False)
class MemoryBlob:
    """An open blob."""

    body: bytes
    is_closed: bool = False

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def fd(self) -> int:
        return _file_of(self.body)

    @property
    def readable(self) -> int:
        return len(self.body)

    async def grown(self, beyond: int) -> int:
        return len(self.body)

    async def pass_through(self, first: int, stop: int) -> None:
        return None

    def close(self) -> None:
        self.is_closed = True


@attrs.define(eq=False)
class MemoryPartial:
    """A partial in a file in memory, whose end is written down in `ended`."""

    digest: Digest
    store: "MemoryBlobs"
    is_kept: bool = True
    content: bytes = b""
    ended: str | None = None
    _fd: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fd = _file_of(self.content)

    def __del__(self) -> None:
        os.close(self._fd)

    @property
    def offset(self) -> int:
        return len(self.content)

    def open_reader(self) -> int:
        return os.dup(self._fd)

    async def write(self, chunk: bytes) -> None:
        if self.store.refusals:
            raise self.store.refusals.pop(0)
        os.pwrite(self._fd, chunk, len(self.content))
        self.content += chunk

    async def is_verified(self) -> bool:
        return self.digest.matches(self.content)

    async def commit(self) -> None:
        self.store.commits += 1
        if self.store.slow_disk is not None:
            await self.store.slow_disk
        if self.store.commit_refusals:
            raise self.store.commit_refusals.pop(0)
        self.store.committed[self.digest] = self.content
        self.ended = "committed"

    async def discard(self) -> None:
        self.ended = "discarded"

    def park(self) -> None:
        self.ended = "parked"
        self.store.parked[self.digest] = self.content


@attrs.define(eq=False)
class MemoryBlobs:
    """Blobs in a dictionary; `refusals` are raised by the next writes, `commit_refusals` by the next commits.

    Commits wait for `slow_disk`.
    """

    committed: dict[Digest, bytes] = attrs.field(factory=dict)
    parked: dict[Digest, bytes] = attrs.field(factory=dict)
    partials: list[MemoryPartial] = attrs.field(factory=list)
    refusals: list[Exception] = attrs.field(factory=list)
    commit_refusals: list[OSError] = attrs.field(factory=list)
    commits: int = 0
    slow_disk: Deferred[None] | None = None

    def size_of(self, digest: Digest) -> int | None:
        content = self.committed.get(digest)
        return None if content is None else len(content)

    def open(self, digest: Digest) -> MemoryBlob | None:
        content = self.committed.get(digest)
        return None if content is None else MemoryBlob(content)

    def find_partial(self, digest: Digest) -> MemoryPartial | None:
        content = self.parked.pop(digest, None)
        if content is None:
            return None
        self.partials.append(MemoryPartial(digest, self, content=content))
        return self.partials[-1]

    def create_partial(self, digest: Digest, *, is_kept: bool) -> MemoryPartial:
        self.partials.append(MemoryPartial(digest, self, is_kept))
        return self.partials[-1]


@attrs.define(eq=False)
class MemoryIndex:
    """Links and tags in dictionaries, and the manifests that make tags held."""

    links: dict[tuple[RepositoryKey, Digest], Descriptor] = attrs.field(factory=dict)
    tags: dict[tuple[RepositoryKey, Tag], TagRecord] = attrs.field(factory=dict)
    manifests: dict[Digest, Manifest] = attrs.field(factory=dict)
    listed: int = 0

    def link(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        return self.links.get((source, digest))

    def add_links(self, source: RepositoryKey, descriptors: Iterable[Descriptor]) -> None:
        for descriptor in descriptors:
            self.links[source, descriptor.digest] = descriptor

    def tag(self, source: RepositoryKey, tag: Tag) -> TagRecord | None:
        return self.tags.get((source, tag))

    def observe_tag(self, source: RepositoryKey, tag: Tag, sighting: TagObservation) -> TagRecord:
        record = self.tags.get((source, tag)) or TagRecord()
        digest = sighting.descriptor.digest
        if digest in self.manifests and (source, digest) in self.links:
            record = TagRecord(cached=sighting)
        else:
            record = attrs.evolve(record, pending=sighting)
        self.tags[source, tag] = record
        return record

    def delete_tag(self, source: RepositoryKey, tag: Tag) -> None:
        self.tags.pop((source, tag), None)

    def repositories(self, upstream: str, after: str, limit: int) -> list[tuple[RepositoryName, bool]]:
        held = {source.repository for source, digest in self.links if source.upstream == upstream}
        page = [(one, True) for one in sorted(held) if one.name > after][:limit]
        self.listed += len(page)
        return page


@attrs.define(eq=False)
class MemoryManifests:
    """Manifests in the index's dictionary; `refusals` are raised by the next stores."""

    index: MemoryIndex
    refusals: list[OSError] = attrs.field(factory=list)
    slow_disk: Deferred[None] | None = None
    being_stored: dict[Digest, Manifest] = attrs.field(factory=dict)

    async def read(self, digest: Digest) -> Manifest | None:
        return self.being_stored.get(digest) or self.index.manifests.get(digest)

    async def store(self, source: RepositoryKey, manifest: Manifest) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.index.add_links(source, [manifest.descriptor, *manifest.references()])
        self.being_stored[manifest.digest] = manifest
        if self.slow_disk is not None:
            await self.slow_disk
        del self.being_stored[manifest.digest]
        self.index.manifests[manifest.digest] = manifest
        for (of, tag), record in self.index.tags.items():
            pending = record.pending
            if of == source and pending is not None and pending.descriptor.digest == manifest.digest:
                self.index.tags[of, tag] = TagRecord(cached=pending)


@attrs.define(eq=False)
class FakeRoom:
    """As much room as `free` says; counts emergencies."""

    free: int = 1 << 40
    disk: int = 1 << 40
    emergencies: int = 0
    can_help: bool = True

    async def make_room(self, size: int, digest: Digest | None = None) -> bool:
        return size <= self.free

    async def lend_room(self, size: int, digest: Digest) -> bool:
        return size <= self.disk

    async def free_in_emergency(self, size: int) -> bool:
        self.emergencies += 1
        return self.can_help


def _file_of(content: bytes) -> int:
    fd = os.memfd_create("blob")
    os.write(fd, content)
    return fd
