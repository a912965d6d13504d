"""BlobFetch: downloads one blob from an upstream into a partial, and resumes after failures.

A fetch is not tied to a client: it begins for the first one and continues when all have disconnected, until
another one needs its slot (flight/slots.py) or its room. Then it is parked: the connection is closed, and the
partial stays, for the next fetch of the blob. It is a loop around one request, "the bytes from where we are"
(fetch_policy.py). A broken connection, a stall, an expired URL and a 5xx in the middle are handled alike:
request again from where the file ends, a little later. Clients notice a pause.

Room is reserved a stride at a time, as bytes arrive: a client that requests a large blob and disconnects has
no part of the cache evicted for what never arrives. Only for a fetch that is read is anything evicted or
parked. Whether the blob can fit at all is decided at the start. If others have taken its room by the time
that it needs it, the partial loses its name: the blob is served to its end, and not kept.

Two things it does not do: fetch segments in parallel (the hash needs the bytes in order, and one connection
fills a home's line), and discard what arrived before a break (the digest decides at the end whether the
pieces fit).
"""

from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.flight.download import Download, Failed, Opening
from mirrord.flight.slots import DownloadSlots, Interest, Slot
from mirrord.mirrored.cache_writer import DISK_FULL, CacheWriter
from mirrord.mirrored.fetch_policy import BlobFetchPolicy
from mirrord.mirrored.ports import BlobBody, BlobFiles, PartialBlob
from mirrord.oci.errors import (
    RegistryError,
    TooManyDownloads,
    Unavailable,
    UpstreamCorrupt,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
)

STRIDE_BYTES = 4 * 1024 * 1024
"""The most room that is reserved ahead: a thirtieth of a second at 1 Gbit/s, and 256 MiB for all downloads.

It is less at first, as much as has arrived: most of the requests that are abandoned are abandoned early.
"""

PARKED_RETRY_SECONDS = 10.0
"""When a background task should retry a download that was parked."""

MAX_FAR_REQUESTS = 4
"""The most ranges of one blob that are passed through at a time."""


@attrs.define(eq=False)
class BlobFetch:
    """One download: `download` is what subscribers see, `policy` decides where the bytes come from.

    `known_size` is the size according to a manifest or the upstream, None while neither is credible.
    `resumed_bytes` is what an earlier download had left. `client` is the first that requested the blob, None
    a background task; `slot` has all readers. After a damaged partial, `download` is replaced by a new one.
    """

    policy: BlobFetchPolicy
    known_size: int | None
    _client: str | None = attrs.field(kw_only=True)
    _files: BlobFiles = attrs.field(kw_only=True)
    _writer: CacheWriter = attrs.field(kw_only=True)
    _slots: DownloadSlots = attrs.field(kw_only=True)
    slot: Slot = attrs.field(init=False)
    download: Download = attrs.field(factory=Download, init=False)
    resumed_bytes: int = attrs.field(default=0, init=False)
    _partial: PartialBlob | None = attrs.field(default=None, init=False)
    _body: BlobBody | None = attrs.field(default=None, init=False)
    _is_size_disputed: bool = attrs.field(default=False, init=False)
    _is_resumed: bool = attrs.field(default=False, init=False)
    _reserved: int = attrs.field(default=0, init=False)
    _far_requests: int = attrs.field(default=0, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        upstream = self.policy.repositories[0].upstream
        self.slot = self._slots.request(client=self._client, upstream=upstream, park=self.stop)

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

    @property
    def partial(self) -> PartialBlob:
        """The growing file, once the download was `opened`."""
        if self._partial is None:
            raise Unavailable("the download has no file yet")
        return self._partial

    def acquire_far_request(self) -> bool:
        """Return whether one more range may be passed through; if so, call `release_far_request` after it."""
        is_free = self._far_requests < MAX_FAR_REQUESTS
        self._far_requests += is_free
        return is_free

    def release_far_request(self) -> None:
        """Release the slot of a range that was passed through."""
        self._far_requests -= 1

    async def run(self) -> None:
        """Download the blob once it has a slot; `download` has the result. Raises unforeseen errors only."""
        if not await self.slot.granted():
            self.download.failed(TooManyDownloads("the download was given up before it began"))
            return
        self.policy.start()
        try:
            self._partial = await self._files.find_partial(self.policy.digest)
            self._is_resumed = self._written > 0
            partial = await self._fill_verified()
        except (RegistryError, OSError) as error:
            await self._fail(error)
        except Exception:
            # An unforeseen error, which the caller logs; but the partial must not stay locked.
            if self._partial is not None:
                await self._partial.park()
            raise
        else:
            self.slot.finish()
            self.download.verified()
            await self._commit(partial)

    def stop(self) -> None:
        """End soon, to be parked or because the daemon is stopping; the partial stays."""
        self.policy.stop()
        if self._body is not None:
            self._body.abort()

    async def _fill_verified(self) -> PartialBlob:
        """Return the partial with all bytes in it, verified.

        Bytes that an earlier download left may have rotted on our disk. So if they were part of what does not
        match, the upstream is not blamed: the blob is downloaded once more, from its beginning.
        """
        try:
            return await self._fill()
        except UpstreamCorrupt:
            if not self._is_resumed:
                raise
        await self._begin_anew()
        return await self._fill()

    async def _begin_anew(self) -> None:
        """Discard the partial. Its readers have read bytes of it, and fail; others read a new download."""
        digest = str(self.policy.digest)
        self._log.warn("the partial of {digest} is damaged; downloading it from its beginning", digest=digest)
        damaged, self.download = self.download, Download()
        damaged.failed(Unavailable("what an earlier download had left of this blob is damaged; retry"))
        self.known_size, self.resumed_bytes, self._reserved = None, 0, 0
        await self._discard()

    async def _fill(self) -> PartialBlob:
        """Return the partial with all bytes in it, after as many requests as necessary."""
        while self._partial is None or self._partial.offset != self.known_size:
            if self.policy.is_stopped:
                raise UpstreamUnreachable("the mirror is stopping")
            before = self._written
            try:
                await self._follow(await self.policy.request(before))
            except UpstreamCorrupt:
                raise
            except UpstreamError as error:
                if not await self._is_complete(error):
                    await self.policy.back_off(error, has_progressed=self._written > before)
        self._open(self.known_size)
        if not await self._partial.is_verified():
            raise UpstreamCorrupt(f"the upstream's bytes are not {self.policy.digest}")
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
        if self.known_size is not None and after > self.known_size:
            raise UpstreamCorrupt("the upstream sends more bytes than the blob has")
        if after > self._reserved:
            await self._reserve(partial, after + min(after - self.resumed_bytes, STRIDE_BYTES))

        def write() -> Awaitable[None]:
            # Stopped like a request: a long prefix may have to be hashed before the first write.
            return self.policy.wait(Deferred.fromCoroutine(partial.write(chunk)))

        if partial.is_kept:
            await self._writer.write(len(chunk), write)
        else:
            await write()
        self.policy.begin()
        self.download.grew(partial.offset)

    async def _reserve(self, partial: PartialBlob, stop: int) -> None:
        """Reserve room up to `stop`, or to the end of the blob."""
        size = self.known_size
        stop = stop if size is None else min(stop, size)
        while not await self._has_room(stop - partial.offset, (size or stop) - partial.offset):
            self._park_if_unread()
            if size is None:
                raise Unavailable("there is no room for a blob whose size the upstream does not report")
            if not partial.is_kept:
                raise Unavailable("the mirror's disk has no room for the rest of this blob")
            await partial.detach()
        self._reserved = stop

    async def _has_room(self, size: int, rest: int) -> bool:
        """Reserve `size` more bytes; return False if they do not fit, or the `rest` of the blob cannot."""
        digest, is_kept = self.policy.digest, self.is_kept

        async def fits(may_evict: bool) -> bool:
            if not self._writer.can_fit(rest, digest, is_kept=is_kept):
                return False
            return await self._writer.has_room(size, digest, is_kept=is_kept, may_evict=may_evict)

        return await self._fits(fits)

    async def _can_fit(self, size: int, *, is_kept: bool) -> bool:
        """Return whether `size` more bytes can fit at all."""

        async def fits(_: bool) -> bool:
            return self._writer.can_fit(size, self.policy.digest, is_kept=is_kept)

        return await self._fits(fits)

    async def _fits(self, fits: Callable[[bool], Awaitable[bool]]) -> bool:
        """Return whether something `fits`, after parking downloads that matter less while it does not.

        Its argument is whether it may evict: not before the downloads without a reader are parked.
        """
        for lesser in Interest:
            if await fits(lesser is not Interest.NONE):
                return True
            if lesser >= self.slot.interest:
                break
            await self._slots.park_all(lesser)
        return False

    def _park_if_unread(self) -> None:
        """Park this download if it has no reader.

        Raises:
            TooManyDownloads: It is parked; or it was stopped before.
        """
        if self.slot.interest is Interest.NONE:
            self.slot.park()
        if self.policy.is_stopped:
            raise TooManyDownloads("others need the room of this download")

    async def _prepare(self) -> PartialBlob:
        """Return the partial to write to; for a blob that does not fit, a file without a name."""
        if self._partial is not None and not isinstance(self.download.state, Opening):
            return self._partial
        size = self.known_size
        if self._partial is not None and size is not None and self._partial.offset > size:
            await self._discard()
        is_kept = await self._can_fit(max(0, (size or 0) - self._written), is_kept=True)
        if not is_kept:
            self._park_if_unread()
            await self._discard()
            if not await self._can_fit(size or 0, is_kept=False):
                raise Unavailable("the mirror's disk has no room for this blob, not even temporarily")
        if self._partial is None:
            self._partial = await self._create(is_kept=is_kept)
        return self._partial

    async def _create(self, *, is_kept: bool) -> PartialBlob:
        """Create a partial; if the disk refuses one with a name, for instance by a quota, one without."""
        digest = self.policy.digest
        if is_kept:
            try:
                return await self._files.create_partial(digest, is_kept=True)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
        return await self._files.create_partial(digest, is_kept=False)

    async def _discard(self) -> None:
        partial, self._partial = self._partial, None
        self._is_resumed = False
        if partial is not None:
            await partial.discard()

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
        if isinstance(error, OSError):
            self._report(error, f"cannot write {self.policy.digest}")
            error = Unavailable("the mirror's disk cannot store the blob")
        if self.slot.is_parking and not isinstance(error, UpstreamCorrupt):
            error = TooManyDownloads(
                "other downloads need the slot or the room of this one",
                retry_after_seconds=PARKED_RETRY_SECONDS,
            )
        # Readers do not wait for the disk, which may be what has failed.
        self.download.failed(error)
        if self._partial is None:
            return
        is_resumable = isinstance(error, UpstreamError | TooManyDownloads)
        if is_resumable and not isinstance(error, UpstreamCorrupt):
            await self._partial.park()
        else:
            await self._partial.discard()

    async def _commit(self, partial: PartialBlob) -> None:
        if not partial.is_kept:
            await partial.discard()
            return
        try:
            await self._writer.write(0, partial.commit)
        except OSError as error:
            self._report(error, f"{self.policy.digest} was served but not cached")
            await partial.discard()
        else:
            self.download.committed()

    def _report(self, error: OSError, consequence: str) -> None:
        self._writer.disk_errors.report(error, consequence)

    @property
    def _written(self) -> int:
        return 0 if self._partial is None else self._partial.offset
