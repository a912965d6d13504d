"""Fetch: how one blob comes from an upstream into a partial, whatever happens on the way.

The fetch belongs to nobody: it is begun for the first client and goes on when all have left. It is
a loop around one question, "the bytes from where we are, please" (asking.py). A break, a stall, an
expired URL, a 5xx in the middle are all the same to it: ask again from where the file ends, a little
later. Clients notice a pause.

What it does not do: fetch segments in parallel (the hash wants the bytes in order, and one
connection fills a home's line), or throw away what came before a break (the digest of all decides
at the end whether the pieces fit together).
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
"""How many ranges of one blob may be passed through at a time."""


@attrs.define(eq=False)
class BlobFetch:
    """One running download: `download` is what subscribers see, `asking` where the bytes come from.

    `known_size` is what a manifest or the upstream says of the blob; None where nobody is believed yet.
    `subscribers` is how many read what comes, `resumed_bytes` what an earlier download had left.
    """

    asking: BlobFetchPolicy
    known_size: int | None
    _blobs: BlobFiles
    _keeper: CacheWriter
    download: Download = attrs.field(factory=Download, init=False)
    subscribers: int = attrs.field(default=0, init=False)
    resumed_bytes: int = attrs.field(default=0, init=False)
    _partial: PartialBlob | None = attrs.field(default=None, init=False)
    _body: BlobBody | None = attrs.field(default=None, init=False)
    _is_disputed: bool = attrs.field(default=False, init=False)
    _granted: int = attrs.field(default=0, init=False)
    _far_requests: int = attrs.field(default=0, init=False)
    _log = Logger()

    @property
    def is_kept(self) -> bool:
        """Whether the blob will be in the store; known when the download was `opened`."""
        return self._partial is not None and self._partial.is_kept

    @property
    def error(self) -> Exception | None:
        """Why it failed, if it did."""
        match self.download.state:
            case Failed(error):
                return error
        return None

    def open_reader(self) -> int:
        """A descriptor of the caller's own on the growing file; only after the download was `opened`."""
        if self._partial is None:
            raise Unavailable("the download has no file yet")
        return self._partial.open_reader()

    def take_far_place(self) -> bool:
        """Whether one more range may be passed through; if so, `leave_far_place` when it is over."""
        is_free = self._far_requests < MAX_FAR_REQUESTS
        self._far_requests += is_free
        return is_free

    def leave_far_place(self) -> None:
        """A range that was passed through is over."""
        self._far_requests -= 1

    async def run(self) -> None:
        """Bring the blob to its end; how that went is in `download`. Raises nothing that can be foreseen."""
        try:
            self._partial = self._blobs.find_partial(self.asking.digest)
            partial = await self._fill()
            if not await partial.is_verified():
                raise UpstreamCorrupt(f"the upstream's bytes are not {self.asking.digest}")
        except (RegistryError, OSError) as error:
            await self._give_up(error)
        except Exception:
            # Unforeseen, and the caller's to log; but the digest must not stay taken for that.
            if self._partial is not None:
                self._partial.park()
            raise
        else:
            self.download.verified()
            await self._commit(partial)

    def stop(self) -> None:
        """End soon, because the daemon does: what is there stays as a partial."""
        self.asking.stop()
        if self._body is not None:
            self._body.abort()

    async def _fill(self) -> PartialBlob:
        """The partial with all bytes in it, by as many questions as it takes."""
        while self._partial is None or self._partial.offset != self.known_size:
            before = self._written
            try:
                await self._follow(await self.asking.ask(before))
            except UpstreamCorrupt:
                raise
            except UpstreamError as error:
                if not await self._is_all_there(error):
                    await self.asking.pause_or_raise(error, has_progressed=self._written > before)
        self._open(self.known_size)
        return self._partial

    async def _is_all_there(self, error: UpstreamError) -> bool:
        """Whether a partial of unknown size, beyond which the upstream has no byte, is whole."""
        if error.upstream_status != 416 or self.known_size is not None or self._partial is None:
            return False
        if not await self._partial.is_verified():
            return False
        self.known_size = self._partial.offset
        return True

    async def _follow(self, body: BlobBody) -> None:
        """Write what `body` brings, to its end; nothing where it begins beyond what we have."""
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
        """Write what of `body` is new."""
        known = partial.offset - body.offset
        while not self.asking.has_stopped and (chunk := await body.read()):
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
            await self._keeper.with_emergency(len(chunk), lambda: partial.write(chunk))
        else:
            await partial.write(chunk)
        self.asking.begun()
        self.download.grew(partial.offset)

    async def _prepare(self) -> PartialBlob:
        """The partial to write to. What cannot fit goes through a file without a name."""
        if self._partial is not None and not isinstance(self.download.state, Opening):
            return self._partial
        size = self.known_size
        if self._partial is not None and size is not None and self._partial.offset > size:
            await self._discard()
        missing = max(0, (size or 0) - self._written)
        is_kept = await self._keeper.has_room(missing, self.asking.digest)
        if not is_kept:
            await self._discard()
            if not await self._keeper.has_room_for_a_while(size or 0, self.asking.digest):
                raise Unavailable("the mirror's disk has no room for this blob, not even for a while")
        if self._partial is None:
            self._partial = self._blobs.create_partial(self.asking.digest, is_kept=is_kept)
        return self._partial

    async def _discard(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            await partial.discard()

    async def _grant(self, size: int) -> None:
        """Let a blob whose size nobody tells grow to `size`, a stride at a time: it may have no end."""
        while size > self._granted:
            if not await self._keeper.has_room(_STRIDE_BYTES, self.asking.digest):
                raise Unavailable("there is no room for a blob whose size the upstream does not tell")
            self._granted += _STRIDE_BYTES

    def _agree_on_size(self, size: int | None) -> None:
        """Where manifest and upstream disagree nobody is believed: the size is what the digest proves."""
        if size is None or self._is_disputed or size == self.known_size:
            return
        if self.known_size is None:
            self.known_size = size
        elif isinstance(self.download.state, Opening):
            self.known_size, self._is_disputed = None, True
        else:
            raise UpstreamRefused(f"the blob has {self.known_size} bytes, the upstream speaks of {size}")

    def _open(self, size: int | None) -> None:
        if size is not None and isinstance(self.download.state, Opening):
            self.asking.begun()
            self.resumed_bytes = self._written
            self.download.opened(size, self._written)

    async def _give_up(self, error: RegistryError | OSError) -> None:
        digest = str(self.asking.digest)
        if isinstance(error, OSError):
            self._log.error("{digest} cannot be written: {error}", digest=digest, error=str(error))
            error = Unavailable("the mirror's disk does not take the blob")
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
            await self._keeper.with_emergency(0, partial.commit)
        except OSError as error:
            digest = str(self.asking.digest)
            self._log.error("{digest} is not kept: {error}", digest=digest, error=str(error))
            await partial.discard()
        else:
            self.download.committed()

    @property
    def _written(self) -> int:
        return 0 if self._partial is None else self._partial.offset
