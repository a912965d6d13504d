"""A fake upstream behind the `Upstream` port: its content is in memory, its failures are up to the test.

It keeps the contract of `UpstreamClient` (tests/unit/fakes/test_upstream.py).
"""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirrord.oci.manifests import OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryName, Tag


@attrs.frozen
class UpstreamRequest:
    """A request to a fake upstream."""

    method: str
    repository: str
    name: str
    offset: int = 0
    stop: int | None = None
    validator: str | None = None
    attempts: int | None = None


@attrs.define(eq=False)
class FakeBlobBody:
    """The body of a blob, of which the test sends one chunk after another, or which it breaks off."""

    offset: int
    size: int | None
    content: bytes
    validator: str | None = None
    is_aborted: bool = False
    _waiting: Deferred[bytes] | None = None
    _ready: list[bytes | Exception] = attrs.field(factory=list)

    async def read(self) -> bytes:
        if self._ready:
            item = self._ready.pop(0)
            if isinstance(item, Exception):
                raise item
            return item
        self._waiting = Deferred()
        return await self._waiting

    def abort(self) -> None:
        self.is_aborted = True
        if self._waiting is not None:
            self.fail()

    def send(self, count: int) -> None:
        """Send the next `count` bytes."""
        chunk, self.content = self.content[:count], self.content[count:]
        self._deliver(chunk)

    def finish(self) -> None:
        """Send the remaining bytes, and end the body."""
        if self.content:
            self.send(len(self.content))
        self._deliver(b"")

    def fail(self, error: Exception | None = None) -> None:
        """Break the connection."""
        self._deliver(error or UpstreamUnreachable("connection lost"))

    def _deliver(self, item: bytes | Exception) -> None:
        if self._waiting is None:
            self._ready.append(item)
            return
        waiting, self._waiting = self._waiting, None
        if isinstance(item, Exception):
            waiting.errback(item)
        else:
            waiting.callback(item)


@attrs.define(eq=False)
class FakeUpstream:
    """Responds from dictionaries; `repositories` are those that have the content, None means any.

    Every request raises `failing`, or only those of `failing_method`; while it `is_hanging`, they wait for
    `respond`. The bodies of blobs wait for the test, or are sent in the next iteration of `sending_clock`.
    `validators` are those of the next bodies, `corrupt` is applied to blobs, and `head_size` is reported
    instead of a blob's size.
    """

    name: str = "docker.io"
    manifests: dict[Digest, Manifest] = attrs.field(factory=dict)
    tags: dict[str, Digest] = attrs.field(factory=dict)
    blobs: dict[Digest, bytes] = attrs.field(factory=dict)
    repositories: set[str] | None = None
    failing: RegistryError | None = None
    failing_method: str | None = None
    is_hanging: bool = False
    sending_clock: Clock | None = None
    reports_digests: bool = True
    hides_absence: bool = False
    reports_sizes: bool = True
    head_size: int | None = None
    accepts_ranges: bool = True
    validators: list[str] = attrs.field(factory=list)
    degraded: bool = False
    requests: list[UpstreamRequest] = attrs.field(factory=list)
    bodies: list[FakeBlobBody] = attrs.field(factory=list)
    corrupt: Callable[[bytes], bytes] = attrs.field(default=lambda content: content)
    _pending: list[Deferred[None]] = attrs.field(factory=list)

    def add(self, *content: Manifest | bytes, tags: tuple[str, ...] = ()) -> None:
        """Add manifests and blobs; `tags` name the first manifest."""
        manifests = [each for each in content if isinstance(each, Manifest)]
        self.manifests.update((manifest.digest, manifest) for manifest in manifests)
        self.tags.update((tag, manifests[0].digest) for tag in tags)
        for each in content:
            if isinstance(each, bytes):
                self.add_blob(each)

    def add_manifest(self, body: bytes, *tags: str, media_type: str = OCI_MANIFEST) -> Manifest:
        """Add a manifest under these tags."""
        manifest = Manifest(Digest.of(body), media_type, body)
        self.add(manifest, tags=tags)
        return manifest

    def add_blob(self, content: bytes) -> Digest:
        """Add a blob."""
        digest = Digest.of(content)
        self.blobs[digest] = content
        return digest

    def count(self, method: str) -> int:
        """Return the number of requests of this method."""
        return sum(request.method == method for request in self.requests)

    def respond(self) -> None:
        """Respond to the requests that wait, and wait no more."""
        pending, self._pending = self._pending, []
        self.is_hanging = False
        for waiting in pending:
            waiting.callback(None)

    def is_degraded(self, *, of_manifests: bool) -> bool:
        return self.degraded

    def mark_degraded(self) -> None:
        self.degraded = True

    async def resolve(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Descriptor | None:
        await self._request(
            UpstreamRequest("HEAD manifest", repository.name, str(reference), attempts=attempts)
        )
        if self.hides_absence:
            return None
        manifest = self._find(repository, reference)
        return manifest.descriptor if self.reports_digests else None

    async def fetch_manifest(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Manifest:
        await self._request(
            UpstreamRequest("GET manifest", repository.name, str(reference), attempts=attempts)
        )
        return self._find(repository, reference)

    async def head_blob(
        self, repository: RepositoryName, digest: Digest, *, budget_seconds: float
    ) -> int | None:
        await self._request(UpstreamRequest("HEAD blob", repository.name, str(digest)))
        content = self._blob(repository, digest)
        if self.head_size is not None:
            return self.head_size
        return len(content) if self.reports_sizes else None

    async def fetch_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        offset: int = 0,
        stop: int | None = None,
        validator: str | None = None,
        budget_seconds: float,
    ) -> FakeBlobBody:
        await self._request(
            UpstreamRequest("GET blob", repository.name, str(digest), offset, stop, validator)
        )
        content = self.corrupt(self._blob(repository, digest))
        if offset and offset >= len(content):
            raise UpstreamRefused("no such range", upstream_status=416)
        if not self.accepts_ranges:
            offset, stop = 0, None
        size = len(content) if self.reports_sizes else None
        etag = self.validators.pop(0) if self.validators else None
        body = FakeBlobBody(offset, size, content[offset:stop], etag)
        self.bodies.append(body)
        if self.sending_clock is not None:
            self.sending_clock.callLater(0, body.finish)
        return body

    async def list_tags(self, repository: RepositoryName, *, budget_seconds: float) -> list[str]:
        await self._request(UpstreamRequest("GET tags", repository.name, ""))
        if not self._has(repository):
            raise NameUnknown("no such repository")
        return sorted(self.tags)

    async def list_referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, *, budget_seconds: float
    ) -> tuple[bytes, bool]:
        await self._request(UpstreamRequest("GET referrers", repository.name, str(digest)))
        return b"{}", artifact_type is not None

    async def _request(self, request: UpstreamRequest) -> None:
        self.requests.append(request)
        if self.is_hanging:
            waiting: Deferred[None] = Deferred()
            self._pending.append(waiting)
            await waiting
        if self.failing is not None and self.failing_method in (None, request.method):
            raise self.failing

    def _find(self, repository: RepositoryName, reference: Reference) -> Manifest:
        digest = self.tags.get(reference.name) if isinstance(reference, Tag) else reference
        if digest is None or digest not in self.manifests or not self._has(repository):
            raise ManifestUnknown("no such manifest")
        return self.manifests[digest]

    def _blob(self, repository: RepositoryName, digest: Digest) -> bytes:
        if digest not in self.blobs or not self._has(repository):
            raise BlobUnknown("no such blob")
        return self.blobs[digest]

    def _has(self, repository: RepositoryName) -> bool:
        return self.repositories is None or repository.name in self.repositories
