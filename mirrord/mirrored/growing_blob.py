"""GrowingBlob: reads a blob that is being downloaded; a committed one is read as the store opens it."""

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.download import Download
from mirrord.flight.slots import SlotReader
from mirrord.mirrored.fetch import BlobFetch
from mirrord.mirrored.ports import BlobBody, PartialBlob, Upstream
from mirrord.mirrored.timeouts import REQUEST_SECONDS
from mirrord.oci.errors import RegistryError
from mirrord.oci.names import RepositoryName
from mirrord.repository import RangeBody

FAR_BYTES = 32 * 1024 * 1024
"""The distance from the download's end up to which a range waits for it."""

_MIN_SECONDS = 1.0
"""The least time before the headers are due in which a request for a far range is worth trying."""


@attrs.define(eq=False, kw_only=True)
class GrowingBlob:
    """A blob that is being downloaded, read from its growing file, by `reader`.

    Its descriptor is opened before the first wait, so that it still reads when the file was committed or
    discarded. The client's headers are due at `until`, by the clock.
    """

    _fetch: BlobFetch
    _reader: SlotReader
    _upstream: Upstream
    _repository: RepositoryName
    size: int
    _clock: IReactorTime
    _until: float
    body: None = attrs.field(default=None, init=False)
    fd: int = attrs.field(init=False)
    _download: Download = attrs.field(init=False)
    _partial: PartialBlob = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._download, self._partial = self._fetch.download, self._fetch.partial
        self.fd = self._partial.open_reader()

    @property
    def readable(self) -> int:
        """The number of bytes that may be sent now."""
        return max(0, self._download.readable)

    async def grown(self, beyond: int) -> int:
        """Wait for more than `beyond` readable bytes."""
        return await self._download.grown(beyond)

    async def pass_through(self, first: int, stop: int) -> RangeBody | None:
        """Request a range from the upstream if it is far ahead, and few such requests are running."""
        download, seconds = self._download, self._until - self._clock.seconds()
        is_near = download.is_over or first - download.written <= FAR_BYTES
        if is_near or seconds < _MIN_SECONDS or not self._fetch.acquire_far_request():
            return None
        passed = None
        try:
            body = await self._upstream.fetch_blob(
                self._repository,
                self._fetch.policy.digest,
                offset=first,
                stop=stop,
                budget_seconds=min(seconds, REQUEST_SECONDS),
            )
            if body.offset == first:
                passed = PassThroughBody(body, self._fetch)
            else:
                body.abort()
        except RegistryError:
            return None
        finally:
            if passed is None:
                self._fetch.release_far_request()
        return passed

    def close(self) -> None:
        """Close the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._partial.close_reader(fd)
            self._reader.leave()


@attrs.define(eq=False)
class PassThroughBody:
    """A range that is passed through unverified; it counts against its download until it is aborted."""

    _body: BlobBody
    _fetch: BlobFetch
    _is_counted: bool = attrs.field(default=True, init=False)

    @property
    def offset(self) -> int:
        """The offset in the blob of the first byte."""
        return self._body.offset

    async def read(self) -> bytes:
        """Return the next bytes."""
        return await self._body.read()

    def abort(self) -> None:
        """Close the connection and release the slot; may be called more than once, also after the end."""
        self._body.abort()
        if self._is_counted:
            self._is_counted = False
            self._fetch.release_far_request()
