"""A fake upstream behind the `Upstream` port: it has content, and fails, hangs or lies as told."""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    RegistryError,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirrord.oci.manifests import OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryName, Tag


@attrs.frozen
class Asked:
    """One question that a fake upstream was asked."""

    method: str
    repository: str
    name: str
    offset: int = 0
    stop: int | None = None
    validator: str | None = None
    attempts: int | None = None


@attrs.define(eq=False)
class FakeBody:
    """A blob's body in chunks; the test lets each of them come, or breaks it."""

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
            self.breaks()

    def sends(self, count: int) -> None:
        """The next `count` bytes come."""
        chunk, self.content = self.content[:count], self.content[count:]
        self._come(chunk)

    def ends(self) -> None:
        """All that is left comes, and the end."""
        if self.content:
            self.sends(len(self.content))
        self._come(b"")

    def breaks(self, error: Exception | None = None) -> None:
        """The connection breaks."""
        self._come(error or UpstreamUnreachable("it broke"))

    def _come(self, item: bytes | Exception) -> None:
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
    """Answers from dictionaries; `failing` is raised by whatever is asked, `is_hanging` never answers.

    `validators` are what the next bodies say of themselves.
    """

    name: str = "docker.io"
    manifests: dict[Digest, Manifest] = attrs.field(factory=dict)
    tags: dict[str, Digest] = attrs.field(factory=dict)
    blobs: dict[Digest, bytes] = attrs.field(factory=dict)
    repositories: set[str] | None = None
    failing: RegistryError | None = None
    failing_method: str | None = None
    is_hanging: bool = False
    tells_digests: bool = True
    hides_absence: bool = False
    tells_sizes: bool = True
    head_size: int | None = None
    takes_ranges: bool = True
    validators: list[str] = attrs.field(factory=list)
    degraded: bool = False
    asked: list[Asked] = attrs.field(factory=list)
    bodies: list[FakeBody] = attrs.field(factory=list)
    pending: list[Deferred[None]] = attrs.field(factory=list)
    corrupt: Callable[[bytes], bytes] = attrs.field(default=lambda content: content)

    def has(self, body: bytes, *tags: str, media_type: str = OCI_MANIFEST) -> Manifest:
        """Give it a manifest under these tags."""
        manifest = Manifest(Digest.of(body), media_type, body)
        self.manifests[manifest.digest] = manifest
        for tag in tags:
            self.tags[tag] = manifest.digest
        return manifest

    def has_blob(self, content: bytes) -> Digest:
        """Give it a blob."""
        digest = Digest.of(content)
        self.blobs[digest] = content
        return digest

    def count(self, method: str) -> int:
        """How often it was asked so."""
        return sum(asked.method == method for asked in self.asked)

    def answers(self) -> None:
        """What hangs is answered now."""
        pending, self.pending = self.pending, []
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
        await self._note(Asked("HEAD manifest", repository.name, str(reference), attempts=attempts))
        if self.hides_absence:
            return None
        manifest = self._find(repository, reference)
        return manifest.descriptor if self.tells_digests else None

    async def fetch_manifest(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Manifest:
        await self._note(Asked("GET manifest", repository.name, str(reference), attempts=attempts))
        return self._find(repository, reference)

    async def head_blob(
        self, repository: RepositoryName, digest: Digest, *, budget_seconds: float
    ) -> int | None:
        await self._note(Asked("HEAD blob", repository.name, str(digest)))
        self._check(repository, digest)
        if self.head_size is not None:
            return self.head_size
        return len(self.blobs[digest]) if self.tells_sizes else None

    async def fetch_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        offset: int = 0,
        stop: int | None = None,
        validator: str | None = None,
        budget_seconds: float,
    ) -> FakeBody:
        await self._note(Asked("GET blob", repository.name, str(digest), offset, stop, validator))
        self._check(repository, digest)
        content = self.corrupt(self.blobs[digest])
        if offset and offset >= len(content):
            raise UpstreamRefused("no such range", upstream_status=416)
        if not self.takes_ranges:
            offset, stop = 0, None
        size = len(content) if self.tells_sizes else None
        etag = self.validators.pop(0) if self.validators else None
        body = FakeBody(offset, size, content[offset:stop], etag)
        self.bodies.append(body)
        return body

    async def list_tags(self, repository: RepositoryName, *, budget_seconds: float) -> list[str]:
        await self._note(Asked("GET tags", repository.name, ""))
        return sorted(self.tags)

    async def list_referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, *, budget_seconds: float
    ) -> tuple[bytes, bool]:
        await self._note(Asked("GET referrers", repository.name, str(digest)))
        return b"{}", artifact_type is not None

    async def _note(self, asked: Asked) -> None:
        self.asked.append(asked)
        if self.is_hanging:
            waiting: Deferred[None] = Deferred()
            self.pending.append(waiting)
            await waiting
        if self.failing is not None and self.failing_method in (None, asked.method):
            raise self.failing

    def _find(self, repository: RepositoryName, reference: Reference) -> Manifest:
        digest = self.tags.get(reference.name) if isinstance(reference, Tag) else reference
        if digest is None or digest not in self.manifests or not self._is_there(repository):
            raise ManifestUnknown("no such manifest")
        return self.manifests[digest]

    def _check(self, repository: RepositoryName, digest: Digest) -> None:
        if digest not in self.blobs or not self._is_there(repository):
            raise BlobUnknown("no such blob")

    def _is_there(self, repository: RepositoryName) -> bool:
        return self.repositories is None or repository.name in self.repositories
