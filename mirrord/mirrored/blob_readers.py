"""Reading a blob that is committed, or one that still grows: one shape for both (repository.py)."""

import os

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.mirrored.fetch import BlobFetch
from mirrord.mirrored.ports import BlobBody, OpenBlob, Upstream
from mirrord.mirrored.timeouts import ASK_SECONDS
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import RegistryError
from mirrord.oci.names import RepositoryName
from mirrord.repository import RangeBody

FAR_BYTES = 32 * 1024 * 1024
"""How far ahead of a download a range may begin and still be waited for."""

_LEAST_SECONDS = 1.0
"""With less time than this before the headers are due, following the file is the better bet."""


@attrs.define(eq=False)
class CachedBlob:
    """A committed blob: all of it can be read."""

    _blob: OpenBlob
    outcome: CacheResult

    @property
    def size(self) -> int:
        """The blob's bytes."""
        return self._blob.size

    @property
    def readable(self) -> int:
        """All of them."""
        return self._blob.size

    @property
    def body(self) -> bytes | None:
        """The blob itself, where it is small and in memory."""
        return self._blob.body

    @property
    def fd(self) -> int:
        """The descriptor to read from."""
        return self._blob.fd

    async def grown(self, beyond: int) -> int:
        """It is grown already."""
        return self._blob.size

    async def pass_through(self, first: int, stop: int) -> RangeBody | None:
        """Nothing is far in a committed blob."""
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._blob.close()


@attrs.define(eq=False)
class GrowingBlob:
    """A blob that is being downloaded, read from its growing file.

    Its descriptor is opened before the first wait, so it still reads when the file has been
    committed or discarded. `_until` is when the client's headers are due, by `_clock`.
    """

    _fetch: BlobFetch
    _upstream: Upstream
    _repository: RepositoryName
    size: int
    outcome: CacheResult
    _clock: IReactorTime
    _until: float
    body: None = attrs.field(default=None, init=False)
    fd: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fd = self._fetch.open_reader()
        self._fetch.subscribers += 1

    @property
    def readable(self) -> int:
        """How many bytes may leave now."""
        return max(0, self._fetch.download.readable)

    async def grown(self, beyond: int) -> int:
        """Wait for more than `beyond` bytes to read."""
        return await self._fetch.download.grown(beyond)

    async def pass_through(self, first: int, stop: int) -> RangeBody | None:
        """The bytes from `first` to before `stop` from the upstream, where they are far and few ask so."""
        download, seconds = self._fetch.download, self._until - self._clock.seconds()
        is_near = download.is_over or first - download.written <= FAR_BYTES
        if is_near or seconds < _LEAST_SECONDS or not self._fetch.take_far_place():
            return None
        passed = None
        try:
            body = await self._upstream.fetch_blob(
                self._repository,
                self._fetch.asking.digest,
                offset=first,
                stop=stop,
                budget_seconds=min(seconds, ASK_SECONDS),
            )
            if body.offset == first:
                passed = PassThroughBody(body, self._fetch)
            else:
                body.abort()
        except RegistryError:
            return None
        finally:
            if passed is None:
                self._fetch.leave_far_place()
        return passed

    def close(self) -> None:
        """Let go of the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._fetch.subscribers -= 1
            os.close(fd)


@attrs.define(eq=False)
class PassThroughBody:
    """A range passed through: unverified, and counted until it is aborted."""

    _body: BlobBody
    _fetch: BlobFetch
    _is_counted: bool = attrs.field(default=True, init=False)

    @property
    def offset(self) -> int:
        """Where in the blob it begins."""
        return self._body.offset

    async def read(self) -> bytes:
        """The next bytes."""
        return await self._body.read()

    def abort(self) -> None:
        """Close the connection and give the place free; may be called more than once, also after the end."""
        self._body.abort()
        if self._is_counted:
            self._is_counted = False
            self._fetch.leave_far_place()
