"""The use cases of pulling, from memory: what api/ports.py asks for, and nothing behind it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.api.ports import UseCases
from mirrord.hosted.repositories import HostedNames
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown
from mirrord.oci.manifests import OCI_INDEX, Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName
from mirrord.oci.routes import Target
from mirrord.repository import (
    BlobSizeResult,
    DescriptorResult,
    ManifestResult,
    ReferrersResult,
    TagListResult,
)
from mirrord.routing import Router, UpstreamRoute
from tests.fakes.hosted import FakeHosting

HUB, QUAY = "docker.io", "quay.io"


@attrs.define(eq=False)
class FakeBlob:
    """A blob in a file; `grow` and `fail` are what its download does."""

    content: bytes
    readable: int
    body: bytes | None = None
    outcome: CacheResult = attrs.field(factory=CacheResult.hit)
    passed: Any = None
    asking: Deferred[None] | None = None
    passed_ranges: list[tuple[int, int]] = attrs.field(factory=list)
    is_closed: bool = False
    cancelled: int = 0
    _fd: int = -1
    _waiting: Deferred[int] | None = None

    @classmethod
    def of(cls, content: bytes, readable: int | None = None, **more: Any) -> "FakeBlob":
        """A blob of which `readable` bytes are there; None: all."""
        return cls(content, len(content) if readable is None else readable, **more)

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def fd(self) -> int:
        if self._fd < 0:
            self._fd, path = tempfile.mkstemp()
            Path(path).unlink()
            os.write(self._fd, self.content)
        return self._fd

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    async def grown(self, beyond: int) -> int:
        while self.readable <= beyond:
            self._waiting = Deferred(self._count_cancelled)
            await self._waiting
        return self.readable

    def grow(self, readable: int) -> None:
        self.readable = readable
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(readable)

    def fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(error)

    async def pass_through(self, first: int, stop: int) -> Any:
        self.passed_ranges.append((first, stop))
        if self.asking is not None:
            await self.asking
        return self.passed

    def close(self) -> None:
        self.is_closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _count_cancelled(self, _: Deferred[int]) -> None:
        self.cancelled += 1
        self._waiting = None


@attrs.define(eq=False)
class FakeBody:
    """Bytes as an upstream sends them, chunk by chunk."""

    offset: int
    chunks: list[bytes]
    size: int | None = None
    validator: str | None = None
    is_aborted: bool = False
    reads: int = 0

    async def read(self) -> bytes:
        self.reads += 1
        return self.chunks.pop(0) if self.chunks else b""

    def abort(self) -> None:
        self.is_aborted = True


@attrs.define(eq=False)
class FakePulling:
    """What can be pulled, what was asked for, and a way to make every question wait."""

    manifests: dict[str, Manifest] = attrs.field(factory=dict)
    blobs: dict[Digest, FakeBlob] = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()
    index: bytes = b'{"manifests":[]}'
    repositories: list[str] = attrs.field(factory=list)
    outcome: CacheResult = attrs.field(factory=CacheResult.hit)
    asked: list[tuple[Any, ...]] = attrs.field(factory=list)
    visits: list[tuple[RepositoryKey, Reference, str]] = attrs.field(factory=list)
    error: Exception | None = None
    pause: Deferred[None] | None = None
    is_filtered: bool = False
    tells_size: bool = True
    hosting: FakeHosting = attrs.field(factory=FakeHosting)

    @property
    def sources(self) -> Router:
        """Where names lead."""
        names = HostedNames(("team/*",))
        return Router.of([UpstreamRoute(HUB, "dockerhub"), UpstreamRoute(QUAY, "quay")], names.has)

    def use_cases(self) -> UseCases:
        """These fakes, as the web takes them; docker.io is `dockerhub`, quay.io `quay`, `team/*` hosted."""
        return UseCases(
            self.sources,
            _Manifests(self),
            _Blobs(self),
            _Tags(self),
            _Referrers(self),
            _Catalog(self),
            _Visitors(self),
            self.hosting.use_cases(),
            self.hosting.clock,
        )

    def add_manifest(self, body: bytes, *references: str, media_type: str = OCI_INDEX) -> Manifest:
        manifest = Manifest(Digest.of(body), media_type, body)
        for reference in (*references, str(manifest.digest)):
            self.manifests[reference] = manifest
        return manifest

    def add_blob(self, content: bytes, readable: int | None = None, **more: Any) -> tuple[Digest, FakeBlob]:
        digest = Digest.of(content)
        blob = self.blobs[digest] = FakeBlob.of(content, readable, **more)
        return digest, blob

    async def ask(self, *question: Any) -> None:
        self.asked.append(question)
        if self.pause is not None:
            await self.pause
        if self.error is not None:
            raise self.error

    def manifest(self, reference: Reference) -> Manifest:
        if str(reference) not in self.manifests:
            raise ManifestUnknown("no such manifest")
        return self.manifests[str(reference)]


@attrs.frozen
class _Visitors:
    pulling: FakePulling

    def record(self, source: RepositoryKey, reference: Reference, client: str) -> None:
        self.pulling.visits.append((source, reference, client))


@attrs.frozen
class _Manifests:
    pulling: FakePulling

    async def get(self, source: RepositoryKey, reference: Reference) -> ManifestResult:
        await self.pulling.ask("get", source, reference)
        return ManifestResult(self.pulling.manifest(reference), self.pulling.outcome)

    async def head(self, source: RepositoryKey, reference: Reference) -> DescriptorResult:
        await self.pulling.ask("head", source, reference)
        manifest = self.pulling.manifest(reference)
        descriptor = Descriptor(manifest.media_type, manifest.digest, len(manifest.body))
        return DescriptorResult(descriptor, self.pulling.outcome)


@attrs.frozen
class _Blobs:
    pulling: FakePulling

    async def open(self, source: RepositoryKey, digest: Digest) -> FakeBlob:
        await self.pulling.ask("open", source, digest)
        return self._blob(digest)

    async def head(self, source: RepositoryKey, digest: Digest) -> BlobSizeResult:
        await self.pulling.ask("head", source, digest)
        size = self._blob(digest).size
        return BlobSizeResult(size if self.pulling.tells_size else None, self.pulling.outcome)

    def _blob(self, digest: Digest) -> FakeBlob:
        if digest not in self.pulling.blobs:
            raise BlobUnknown("no such blob")
        return self.pulling.blobs[digest]


@attrs.frozen
class _Tags:
    pulling: FakePulling

    async def list(self, source: RepositoryKey) -> TagListResult:
        await self.pulling.ask("tags", source)
        return TagListResult(self.pulling.tags, self.pulling.outcome)


@attrs.frozen
class _Referrers:
    pulling: FakePulling

    async def list(self, source: RepositoryKey, digest: Digest, artifact_type: str | None) -> ReferrersResult:
        await self.pulling.ask("referrers", source, digest, artifact_type)
        return ReferrersResult(self.pulling.index, self.pulling.is_filtered, self.pulling.outcome)


@attrs.frozen
class _Catalog:
    pulling: FakePulling

    def repositories(
        self, target: Target, default: str, last: str
    ) -> Iterator[tuple[str, RepositoryKey | None]]:
        for name in self.pulling.repositories:
            if name > last:
                self.pulling.asked.append(("catalog", name))
                yield name, RepositoryKey(default, RepositoryName(name))
