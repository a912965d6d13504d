"""Fake mirrored repositories for the tests of the API: their content, waits and failures are up to the test.

`FakeRepository` keeps the contract of `Repository` (tests/unit/fakes/test_repository.py).
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.access.authenticator import Authenticator
from mirrord.access.rules import Rules
from mirrord.api.root import APIResource, RegistryRoot
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
from mirrord.routing import Router, UpstreamRoute
from tests.fakes.clock import ImmediateClock
from tests.fakes.configurations import configuration
from tests.fakes.repositories import HUB, QUAY, Repositories
from tests.fakes.routing import NOTHING_STORED, no_repository


@attrs.define(eq=False)
class FakeBlob:
    """A blob in a file, which the test lets grow or fail; `body` is its content in memory.

    `passed` is the response to a far range, after `pause`.
    """

    content: bytes
    readable: int
    body: bytes | None = None
    cache: CacheResult = attrs.field(factory=CacheResult.hit)
    passed: Any = None
    pause: Deferred[None] | None = None
    passed_ranges: list[tuple[int, int]] = attrs.field(factory=list)
    is_closed: bool = False
    cancelled: int = 0
    _fd: int = -1
    _waiting: Deferred[int] | None = None

    @classmethod
    def of(cls, content: bytes, readable: int | None = None, **more: Any) -> "FakeBlob":
        """Return a blob of which `readable` bytes are written; None: all."""
        return cls(content, len(content) if readable is None else readable, **more)

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def is_awaited(self) -> bool:
        """Whether a reader waits for more."""
        return self._waiting is not None

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
        if self.pause is not None:
            await self.pause
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
class FakeRangeBody:
    """A range that is passed through, in chunks."""

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
class FakeRepositories:
    """The content of all mirrored repositories.

    Every request is recorded in `requests`, waits for `pause` and then raises `error`. With `hosted`, real
    hosted repositories are found too.
    """

    manifests: dict[str, Manifest] = attrs.field(factory=dict)
    blobs: dict[Digest, FakeBlob] = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()
    referrers: bytes = b'{"manifests":[]}'
    catalog: list[str] = attrs.field(factory=list)
    cache: CacheResult = attrs.field(factory=CacheResult.hit)
    requests: list[tuple[Any, ...]] = attrs.field(factory=list)
    error: Exception | None = None
    pause: Deferred[None] | None = None
    is_filtered: bool = False
    reports_size: bool = True
    hosted: Repositories | None = None
    clock: ImmediateClock = attrs.field(factory=ImmediateClock)

    def router(self) -> Router:
        """Return a router: docker.io is `dockerhub`, quay.io is `quay`, and `team/*` is hosted."""
        stored = NOTHING_STORED
        if self.hosted is not None:
            index = self.hosted.store.opened.hosted
            stored = attrs.evolve(stored, hosted=index.repositories, has_hosted=index.has)
        return Router.of(
            [UpstreamRoute(HUB, "dockerhub"), UpstreamRoute(QUAY, "quay")],
            hosted_patterns=("team/*",),
            open_mirrored=lambda key: FakeRepository(key, self),
            open_hosted=no_repository if self.hosted is None else self.hosted.hosted,
            stored=attrs.evolve(stored, of_upstream=self._of_upstream),
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
        """Return the root of a listener whose own upstream is docker.io."""
        router = self.router()
        if authenticator is None:
            authenticator = Authenticator(rules=Rules.of(configuration()), resolve_scope=router.resolve_scope)
        return RegistryRoot(
            APIResource(
                router=router,
                authenticator=authenticator,
                default=HUB,
                metrics=metrics,
                pages=pages,
                last_clients=last_clients or LastClients(lambda: 0.0),
                clock=self.clock,
                make_boundary=lambda: "0b0b",
                is_debugging=is_debugging,
            )
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

    async def request(self, *request: Any) -> None:
        self.requests.append(request)
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
        names = [name for name in self.catalog if name > after] if upstream == HUB else []
        self.requests += [("catalog", name) for name in names[:limit]]
        return [(RepositoryName(name), True) for name in names[:limit]]


@attrs.frozen
class FakeRepository(Repository):
    """A mirrored repository with the content of `FakeRepositories`."""

    _key: RepositoryKey
    _all: FakeRepositories

    @property
    def key(self) -> RepositoryKey:
        return self._key

    async def get_manifest(self, reference: Reference) -> ManifestResult:
        await self._all.request("get", self._key, reference)
        return ManifestResult(self._all.manifest(reference), self._all.cache)

    async def head_manifest(self, reference: Reference) -> DescriptorResult:
        await self._all.request("head", self._key, reference)
        return DescriptorResult(self._all.manifest(reference).descriptor, self._all.cache)

    async def open_blob(self, digest: Digest, client: str | None = None) -> BlobResult:
        await self._all.request("open", self._key, digest)
        blob = self._all.blob(digest)
        return BlobResult(blob, blob.cache)

    async def head_blob(self, digest: Digest) -> BlobSizeResult:
        await self._all.request("head", self._key, digest)
        size = self._all.blob(digest).size
        return BlobSizeResult(size if self._all.reports_size else None, self._all.cache)

    async def list_tags(self, page: Page) -> TagListResult:
        await self._all.request("tags", self._key)
        names = [tag for tag in self._all.tags if tag > page.last]
        return TagListResult(tuple(names[: None if page.limit is None else page.limit + 1]), self._all.cache)

    async def list_referrers(
        self, subject: Digest, artifact_type: str | None, after: str = ""
    ) -> ReferrersResult:
        await self._all.request("referrers", self._key, subject, artifact_type)
        return ReferrersResult(self._all.referrers, self._all.is_filtered, self._all.cache)

    def stored_blob_size(self, digest: Digest) -> int | None:
        blob = self._all.blobs.get(digest)
        return None if blob is None or blob.readable < blob.size else blob.size

    def stored_tags(self) -> Iterator[list[StoredTag]]:
        raise AssertionError("the API does not list what is stored")

    def stored_content(self) -> Iterator[list[StoredContent]]:
        raise AssertionError("the API does not list what is stored")

    async def stored_manifest(self, digest: Digest) -> Manifest | None:
        raise AssertionError("the API does not read the store")

    def look_up(self, reference: Reference) -> ReferenceState:
        raise AssertionError("the API does not look references up")

    def blob_state(self, descriptor: Descriptor) -> BlobState:
        raise AssertionError("the API does not look blobs up")

    def unavailable_because(self, *, is_known: bool, is_complete: bool) -> str | None:
        raise AssertionError("the API does not explain")

    async def remove(self, tag: Tag | None, digest: Digest | None) -> Removal:
        raise AssertionError("the API does not remove")
