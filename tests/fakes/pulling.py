"""Mirrored repositories in memory, without an upstream behind them, and a router that finds them."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.access.authenticator import Authenticator
from mirrord.access.rules import Rules
from mirrord.api.root import RegistryRoot
from mirrord.http.page_cache import PageCache
from mirrord.last_clients import LastClients
from mirrord.observe.metrics import Metrics
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown
from mirrord.oci.manifests import OCI_INDEX, Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag
from mirrord.oci.routes import Page
from mirrord.repository import (
    BlobResult,
    BlobSizeResult,
    BlobState,
    DescriptorResult,
    ManifestResult,
    ReferenceState,
    ReferrersResult,
    Removal,
    Repository,
    StoredContent,
    StoredTag,
    TagListResult,
)
from mirrord.routing import Router, StoredRepositories, UpstreamRoute
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
    error: Exception | None = None
    pause: Deferred[None] | None = None
    is_filtered: bool = False
    tells_size: bool = True
    hosting: FakeHosting = attrs.field(factory=FakeHosting)

    def router(self) -> Router:
        """Return where names lead: docker.io is `dockerhub`, quay.io `quay`, and `team/*` is hosted."""
        stored = StoredRepositories(
            of_upstream=self._of_upstream,
            hosted=self.hosting.index.repositories,
            mirrored=lambda: iter(()),
            has_hosted=self.hosting.index.has,
        )
        return Router.of(
            [UpstreamRoute(HUB, "dockerhub"), UpstreamRoute(QUAY, "quay")],
            hosted_patterns=("team/*",),
            open_mirrored=lambda key: FakeRepository(key, self),
            open_hosted=self.hosting.open,
            stored=stored,
        )

    def root(
        self,
        authenticator: Authenticator | None = None,
        *,
        metrics: Metrics,
        pages: PageCache,
        last_clients: LastClients | None = None,
        is_debugging: Callable[[], bool] = lambda: True,
    ) -> RegistryRoot:
        """Return the root of a listener whose own upstream is docker.io, with this content behind it."""
        router = self.router()
        if authenticator is None:
            authenticator = Authenticator(rules=Rules.of(None), resolve_scope=router.resolve_scope)
        return RegistryRoot(
            router,
            authenticator,
            HUB,
            metrics=metrics,
            pages=pages,
            last_clients=last_clients or LastClients(lambda: 0.0),
            clock=self.hosting.clock,
            make_boundary=lambda: "0b0b",
            is_debugging=is_debugging,
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

    def blob(self, digest: Digest) -> FakeBlob:
        if digest not in self.blobs:
            raise BlobUnknown("no such blob")
        return self.blobs[digest]

    def _of_upstream(self, upstream: str, after: str, limit: int) -> list[tuple[RepositoryName, bool]]:
        names = [name for name in self.repositories if name > after] if upstream == HUB else []
        self.asked += [("catalog", name) for name in names[:limit]]
        return [(RepositoryName(name), True) for name in names[:limit]]


@attrs.frozen
class FakeRepository(Repository):
    """A mirrored repository with the content of a FakePulling."""

    _key: RepositoryKey
    _pulling: FakePulling

    @property
    def key(self) -> RepositoryKey:
        return self._key

    async def get_manifest(self, reference: Reference) -> ManifestResult:
        await self._pulling.ask("get", self._key, reference)
        return ManifestResult(self._pulling.manifest(reference), self._pulling.outcome)

    async def head_manifest(self, reference: Reference) -> DescriptorResult:
        await self._pulling.ask("head", self._key, reference)
        return DescriptorResult(self._pulling.manifest(reference).descriptor, self._pulling.outcome)

    async def open_blob(self, digest: Digest) -> BlobResult:
        await self._pulling.ask("open", self._key, digest)
        blob = self._pulling.blob(digest)
        return BlobResult(blob, blob.outcome)

    async def head_blob(self, digest: Digest) -> BlobSizeResult:
        await self._pulling.ask("head", self._key, digest)
        size = self._pulling.blob(digest).size
        return BlobSizeResult(size if self._pulling.tells_size else None, self._pulling.outcome)

    async def list_tags(self, page: Page) -> TagListResult:
        await self._pulling.ask("tags", self._key)
        names = [tag for tag in self._pulling.tags if tag > page.last]
        return TagListResult(
            tuple(names[: None if page.limit is None else page.limit + 1]), self._pulling.outcome
        )

    async def list_referrers(
        self, subject: Digest, artifact_type: str | None, after: str = ""
    ) -> ReferrersResult:
        await self._pulling.ask("referrers", self._key, subject, artifact_type)
        return ReferrersResult(self._pulling.index, self._pulling.is_filtered, self._pulling.outcome)

    def stored_blob_size(self, digest: Digest) -> int | None:
        blob = self._pulling.blobs.get(digest)
        return None if blob is None else blob.size

    def stored_tags(self) -> Iterator[list[StoredTag]]:
        raise AssertionError("only the operator lists what is stored")

    def stored_content(self) -> Iterator[list[StoredContent]]:
        raise AssertionError("only the operator lists what is stored")

    async def stored_manifest(self, digest: Digest) -> Manifest | None:
        raise AssertionError("only the operator reads the store")

    def look_up(self, reference: Reference) -> ReferenceState:
        raise AssertionError("only the operator looks references up")

    def blob_state(self, descriptor: Descriptor) -> BlobState:
        raise AssertionError("only the operator looks blobs up")

    def unavailable_because(self, *, is_known: bool, is_complete: bool) -> str | None:
        raise AssertionError("only the operator is given reasons")

    async def remove(self, tag: Tag | None, digest: Digest | None) -> Removal:
        raise AssertionError("only the operator removes")
