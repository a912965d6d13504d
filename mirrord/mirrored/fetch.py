"""BlobFetch: downloads one blob from an upstream into a partial, and resumes after failures.

A fetch is not tied to a client: it begins for the first one and continues when all have disconnected. It is a
loop around one request, "the bytes from where we are" (fetch_policy.py). A broken connection, a stall, an
expired URL and a 5xx in the middle are handled alike: request again from where the file ends, a little later.
Clients notice a pause.

Two things it does not do: fetch segments in parallel (the hash needs the bytes in order, and one connection
fills a home's line), and discard what arrived before a break (the digest decides at the end whether the
pieces fit).
"""

import attrs
from twisted.logger import Logger

from mirrord.flight.download import Download, Failed, Opening
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.fetch_policy import BlobFetchPolicy
from mirrord.mirrored.ports import BlobBody, BlobFiles, PartialBlob
from mirrord.oci.errors import (
    RegistryError,
    Unavailable,
    UpstreamCorrupt,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
)

_STRIDE_BYTES = 64 * 1024 * 1024

MAX_FAR_REQUESTS = 4
"""The most ranges of one blob that are passed through at a time."""


@attrs.define(eq=False)
class BlobFetch:
    """One running download: `download` is what subscribers see, `policy` decides where the bytes come from.

    `known_size` is the size according to a manifest or the upstream, None while neither is credible.
    `subscribers` is the number of readers, `resumed_bytes` what an earlier download had left.
    """

    policy: BlobFetchPolicy
    known_size: int | None
    _files: BlobFiles = attrs.field(kw_only=True)
    _writer: CacheWriter = attrs.field(kw_only=True)
    download: Download = attrs.field(factory=Download, init=False)
    subscribers: int = attrs.field(default=0, init=False)
    resumed_bytes: int = attrs.field(default=0, init=False)
    _partial: PartialBlob | None = attrs.field(default=None, init=False)
    _body: BlobBody | None = attrs.field(default=None, init=False)
    _is_size_disputed: bool = attrs.field(default=False, init=False)
    _granted: int = attrs.field(default=0, init=False)
    _far_requests: int = attrs.field(default=0, init=False)
    _log = Logger()

    @property
    def is_kept(self) -> bool:
        """Whether the blob will be in the store; known when the download was `opened`."""
        return self._partial is not None and self._partial.is_kept

    @property
    def error(self) -> Exception | None:
        """The error of a failed download."""
        match self.download.state:
            case Failed(error):
                return error
        return None

    def open_reader(self) -> int:
        """Return a descriptor of the caller's own on the growing file, once the download was `opened`."""
        if self._partial is None:
            raise Unavailable("the download has no file yet")
        return self._partial.open_reader()

    def acquire_far_request(self) -> bool:
        """Return whether one more range may be passed through; if so, call `release_far_request` after it."""
        is_free = self._far_requests < MAX_FAR_REQUESTS
        self._far_requests += is_free
        return is_free

    def release_far_request(self) -> None:
        """Release the slot of a range that was passed through."""
        self._far_requests -= 1

    async def run(self) -> None:
        """Download the blob; `download` has the result. Raises unforeseen errors only."""
        try:
            self._partial = self._files.find_partial(self.policy.digest)
            partial = await self._fill()
            if not await partial.is_verified():
                raise UpstreamCorrupt(f"the upstream's bytes are not {self.policy.digest}")
        except (RegistryError, OSError) as error:
            await self._fail(error)
        except Exception:
            # An unforeseen error, which the caller logs; but the partial must not stay locked.
            if self._partial is not None:
                self._partial.park()
            raise
        else:
            self.download.verified()
            await self._commit(partial)

    def stop(self) -> None:
        """End soon, since the daemon is stopping; the partial stays."""
        self.policy.stop()
        if self._body is not None:
            self._body.abort()

    async def _fill(self) -> PartialBlob:
        """Return the partial with all bytes in it, after as many requests as necessary."""
        while self._partial is None or self._partial.offset != self.known_size:
            before = self._written
            try:
                await self._follow(await self.policy.request(before))
            except UpstreamCorrupt:
                raise
            except UpstreamError as error:
                if not await self._is_complete(error):
                    await self.policy.back_off(error, has_progressed=self._written > before)
        self._open(self.known_size)
        return self._partial

    async def _is_complete(self, error: UpstreamError) -> bool:
        """Return whether a partial of unknown size is the whole blob: the upstream has no byte after it."""
        if error.upstream_status != 416 or self.known_size is not None or self._partial is None:
            return False
        if not await self._partial.is_verified():
            return False
        self.known_size = self._partial.offset
        return True

    async def _follow(self, body: BlobBody) -> None:
        """Write the bytes of `body`; nothing if it begins beyond the end of the partial."""
        self._body = body
        try:
            self._agree_on_size(body.size)
            partial = await self._prepare()
            if partial.offset < body.offset:
                return
            self._open(self.known_size)
            await self._copy(body, partial)
        finally:
            self._body = None
            body.abort()
        if self.known_size is None:
            self.known_size = partial.offset
        elif partial.offset < self.known_size:
            raise UpstreamUnreachable("the upstream ended the blob early")

    async def _copy(self, body: BlobBody, partial: PartialBlob) -> None:
        """Write the bytes of `body` that are new."""
        known = partial.offset - body.offset
        while not self.policy.is_stopped and (chunk := await body.read()):
            new, known = chunk[known:], max(0, known - len(chunk))
            if new:
                await self._write(partial, new)

    async def _write(self, partial: PartialBlob, chunk: bytes) -> None:
        after = partial.offset + len(chunk)
        if self.known_size is None:
            await self._grant(after)
        elif after > self.known_size:
            raise UpstreamCorrupt("the upstream sends more bytes than the blob has")
        if partial.is_kept:
            await self._writer.write(len(chunk), lambda: partial.write(chunk))
        else:
            await partial.write(chunk)
        self.policy.begin()
        self.download.grew(partial.offset)

    async def _prepare(self) -> PartialBlob:
        """Return the partial to write to; for a blob that does not fit, a file without a name."""
        if self._partial is not None and not isinstance(self.download.state, Opening):
            return self._partial
        size = self.known_size
        if self._partial is not None and size is not None and self._partial.offset > size:
            await self._discard()
        missing = max(0, (size or 0) - self._written)
        is_kept = await self._writer.has_room(missing, self.policy.digest)
        if not is_kept:
            await self._discard()
            if not await self._writer.has_transient_room(size or 0, self.policy.digest):
                raise Unavailable("the mirror's disk has no room for this blob, not even temporarily")
        if self._partial is None:
            self._partial = self._files.create_partial(self.policy.digest, is_kept=is_kept)
        return self._partial

    async def _discard(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            await partial.discard()

    async def _grant(self, size: int) -> None:
        """Let a blob of unknown size grow to `size`, a stride at a time: it may be endless."""
        while size > self._granted:
            if not await self._writer.has_room(_STRIDE_BYTES, self.policy.digest):
                raise Unavailable("there is no room for a blob whose size the upstream does not report")
            self._granted += _STRIDE_BYTES

    def _agree_on_size(self, size: int | None) -> None:
        """Compare the upstream's size with the manifest's; if they differ, the digest alone decides."""
        if size is None or self._is_size_disputed or size == self.known_size:
            return
        if self.known_size is None:
            self.known_size = size
        elif isinstance(self.download.state, Opening):
            self.known_size, self._is_size_disputed = None, True
        else:
            raise UpstreamRefused(f"the blob has {self.known_size} bytes, but the upstream reports {size}")

    def _open(self, size: int | None) -> None:
        if size is not None and isinstance(self.download.state, Opening):
            self.policy.begin()
            self.resumed_bytes = self._written
            self.download.opened(size, self._written)

    async def _fail(self, error: RegistryError | OSError) -> None:
        digest = str(self.policy.digest)
        if isinstance(error, OSError):
            self._log.error("cannot write {digest}: {error}", digest=digest, error=str(error))
            error = Unavailable("the mirror's disk cannot store the blob")
        if self._partial is not None:
            if isinstance(error, UpstreamError) and not isinstance(error, UpstreamCorrupt):
                self._partial.park()
            else:
                await self._partial.discard()
        self.download.failed(error)

    async def _commit(self, partial: PartialBlob) -> None:
        if not partial.is_kept:
            await partial.discard()
            return
        try:
            await self._writer.write(0, partial.commit)
        except OSError as error:
            digest = str(self.policy.digest)
            self._log.error("{digest} was served but not cached: {error}", digest=digest, error=str(error))
            await partial.discard()
        else:
            self.download.committed()

    @property
    def _written(self) -> int:
        return 0 if self._partial is None else self._partial.offset
