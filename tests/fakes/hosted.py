"""What pushing needs of the disk, in memory: sessions, links, tags, and room."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import attrs
from twisted.internet.defer import Deferred

from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.ports import HostedGraph
from mirrord.hosted.referrers import HostedReferrers
from mirrord.hosted.repository import HostedRepository, HostedServices
from mirrord.hosted.uploads import Uploader
from mirrord.oci.content import ContentKind, HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, ManifestBlobUnknown, UploadBusy
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from tests.fakes.clock import ImmediateClock
from tests.fakes.store import MemoryBlobs

NOW = 1_000_000.0


@attrs.define(eq=False)
class MemoryUpload:
    """A session; `refusals` of its store are raised by the next writes and commits."""

    session: str
    repository: RepositoryName
    uploads: "MemoryUploads"
    content: bytes = b""
    is_busy: bool = True
    writes: list[int] = attrs.field(factory=list)

    @property
    def offset(self) -> int:
        return len(self.content)

    async def write(self, chunk: bytes) -> None:
        self.uploads.refuse()
        self.writes.append(len(chunk))
        self.content += chunk

    async def commit(self, digest: Digest) -> None:
        if not digest.matches(self.content):
            raise DigestInvalid("other bytes")
        self.uploads.refuse()
        if self.uploads.slow_disk is not None:
            await self.uploads.slow_disk
        self.uploads.index.hold(self.repository, digest, self.content)
        del self.uploads.sessions[self.session]

    async def discard(self) -> None:
        self.uploads.sessions.pop(self.session, None)

    def release(self) -> None:
        self.is_busy = False


@attrs.define(eq=False)
class MemoryUploads:
    """Sessions in a dictionary; commits wait for `slow_disk`."""

    index: "MemoryHosted"
    sessions: dict[str, MemoryUpload] = attrs.field(factory=dict)
    refusals: list[OSError] = attrs.field(factory=list)
    begun: int = 0
    slow_disk: Deferred[None] | None = None

    def begin(self, repository: RepositoryName) -> MemoryUpload:
        self.begun += 1
        name = f"session-{self.begun}"
        self.sessions[name] = MemoryUpload(name, repository, self)
        return self.sessions[name]

    def find(self, repository: RepositoryName, session: str) -> MemoryUpload | None:
        upload = self.sessions.get(session)
        if upload is None or upload.repository != repository:
            return None
        if upload.is_busy:
            raise UploadBusy("busy")
        upload.is_busy = True
        return upload

    def refuse(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)


@attrs.define(eq=False)
class MemoryHosted:
    """Links and tags in dictionaries; the bytes are in the blobs and manifests of the same store."""

    blobs: MemoryBlobs = attrs.field(factory=MemoryBlobs)
    manifests: dict[Digest, Manifest] = attrs.field(factory=dict)
    linked: dict[tuple[RepositoryName, Digest, bool], HostedLink] = attrs.field(factory=dict)
    named: dict[tuple[RepositoryName, Tag], Digest] = attrs.field(factory=dict)
    looked_up: list[Digest] = attrs.field(factory=list)
    told: list[Digest] = attrs.field(factory=list)

    def hold(self, repository: RepositoryName, digest: Digest, content: bytes) -> None:
        """Have a blob in a repository."""
        self.blobs.committed[digest] = content
        self._link(repository, Descriptor("application/octet-stream", digest, len(content)))

    def has(self, repository: RepositoryName) -> bool:
        return any(holder == repository for holder, _, _ in self.linked)

    def repositories(self, after: str, limit: int) -> list[RepositoryName]:
        held = sorted({holder for holder, _, _ in self.linked})
        return [holder for holder in held if holder.name > after][:limit]

    def link(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> HostedLink | None:
        self.looked_up.append(digest)
        kinds = (True, False) if is_manifest is None else (is_manifest,)
        return next(filter(None, (self.linked.get((repository, digest, kind)) for kind in kinds)), None)

    def repositories_with(self, digest: Digest, *, is_manifest: bool = False) -> Iterator[RepositoryName]:
        yield from sorted(of for of, held, kind in self.linked if (held, kind) == (digest, is_manifest))

    def tag(self, repository: RepositoryName, tag: Tag) -> Descriptor | None:
        digest = self.named.get((repository, tag))
        return None if digest is None else self.linked[repository, digest, True].descriptor

    def tags(self, repository: RepositoryName, after: str, limit: int) -> list[str]:
        names = sorted(tag.name for holder, tag in self.named if holder == repository)
        return [name for name in names if name > after][:limit]

    def referrers(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None = None, after: str = ""
    ) -> Iterator[HostedLink]:
        found = [link for (holder, _, _), link in self.linked.items() if holder == repository]
        for link in sorted(found, key=lambda link: link.descriptor.digest):
            is_wanted = link.subject == subject and artifact_type in {None, link.artifact_type}
            if is_wanted and str(link.descriptor.digest) > after:
                self.told.append(link.descriptor.digest)
                yield link

    async def add_blob(self, repository: RepositoryName, descriptor: Descriptor) -> bool:
        if descriptor.digest not in self.blobs.committed:
            return False
        self._link(repository, descriptor)
        return True

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
        held = {(digest, kind) for holder, digest, kind in self.linked if holder == repository}
        needed = [{(blob, False)} for blob in blobs]
        needed += [{(child, True), (child, False)} for child in children]
        if not all(held & either for either in needed):
            raise ManifestBlobUnknown("it is gone")
        self.manifests[manifest.digest] = manifest
        self.linked[repository, manifest.digest, True] = link
        for tag in tags:
            self.named[repository, tag] = manifest.digest

    async def delete_tag(self, repository: RepositoryName, tag: Tag) -> bool:
        return self.named.pop((repository, tag), None) is not None

    async def delete(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> bool:
        kinds = (True, False) if is_manifest is None else (is_manifest,)
        gone = [self.linked.pop((repository, digest, kind), None) for kind in kinds]
        if True in kinds:
            self.named = {
                key: named for key, named in self.named.items() if (key[0], named) != (repository, digest)
            }
        return any(gone)

    def links(self, repository: RepositoryName) -> Iterator[list[HostedLink]]:
        yield [link for (holder, _, _), link in self.linked.items() if holder == repository]

    def tagged(self, repository: RepositoryName) -> Iterator[list[tuple[Tag, Digest, float]]]:
        yield [(tag, digest, NOW) for (holder, tag), digest in self.named.items() if holder == repository]

    async def delete_repository(self, repository: RepositoryName) -> bool:
        raise AssertionError("only the operator removes repositories")

    def size_of(self, kind: ContentKind, digest: Digest) -> int | None:
        if kind is ContentKind.BLOB:
            return self.blobs.size_of(digest)
        manifest = self.manifests.get(digest)
        return None if manifest is None else len(manifest.body)

    async def manifest(self, digest: Digest) -> Manifest | None:
        return self.manifests.get(digest)

    async def read(self, digest: Digest) -> Manifest | None:
        return self.manifests.get(digest)

    async def store(self, source: RepositoryKey, manifest: Manifest) -> None:
        raise AssertionError("nothing is mirrored here")

    def _link(self, repository: RepositoryName, descriptor: Descriptor) -> None:
        self.linked[repository, descriptor.digest, False] = HostedLink(
            descriptor=descriptor, is_manifest=False, linked_at=NOW
        )


@attrs.define(eq=False)
class FakeHostedRoom:
    """As much room as `free` says, for each who asks; `asked` are the sizes."""

    free: int = 1 << 40
    asked: list[int] = attrs.field(factory=list)

    async def make_room_for_push(self, size: int) -> bool:
        self.asked.append(size)
        return size <= self.free


@attrs.define(eq=False)
class FakeHosting:
    """Hosted repositories over memory."""

    index: MemoryHosted = attrs.field(factory=MemoryHosted)
    room: FakeHostedRoom = attrs.field(factory=FakeHostedRoom)
    max_bytes: int | None = None
    can_delete: bool = True
    clock: ImmediateClock = attrs.field(factory=ImmediateClock)
    uploads: MemoryUploads = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.uploads = MemoryUploads(self.index)

    def services(self) -> HostedServices:
        """Return the real services over these fakes."""
        index, graph = self.index, cast("HostedGraph", None)
        return HostedServices(
            links=index,
            content=index,
            blobs=index.blobs,
            manifests=index,
            referrers=HostedReferrers(index, index),
            uploader=Uploader(self.uploads, self.room, self.max_bytes),
            mounter=Mounter(index),
            pusher=ManifestPusher(links=index, space=self.room, now=lambda: NOW, clock=self.clock),
            deletion=HostedDeletion(links=index, graph=graph, clock=self.clock, is_allowed=self.can_delete),
            is_configured=lambda name: name.name.startswith("team/"),
            clock=self.clock,
        )

    def open(self, key: RepositoryKey) -> HostedRepository:
        """Return a hosted repository."""
        return HostedRepository(key, self.services())
