"""Fetch: how one blob comes from an upstream into a partial, whatever happens on the way.

The fetch belongs to nobody: it is begun for the first client and goes on when all have left. It is
a loop around one question, "the bytes from where we are, please". A break, a stall, an expired URL,
a 5xx in the middle are all the same to it: ask again from where the file ends, a little later, and
begin to count tries anew as soon as a byte has come. Clients notice a pause.

What it does not do: fetch segments in parallel (the hash wants the bytes in order, and one
connection fills a home's line), or throw away what came before a break (the digest of all decides
at the end whether the pieces fit together).
"""

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.flight.download import Download, Failed, Opening
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    CircuitOpen,
    RegistryError,
    Unavailable,
    UpstreamBusy,
    UpstreamCorrupt,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirrord.oci.names import Source
from mirrord.pull.keeping import Keeper
from mirrord.pull.patience import ASK_SECONDS, pause
from mirrord.pull.ports import BlobBody, Blobs, Partial, Upstream

_MAX_TRIES = 5
_FIRST_TRY_SECONDS = 8.0
_LONGEST_PAUSE_SECONDS = 8.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_STRIDE_BYTES = 64 * 1024 * 1024


@attrs.define(eq=False)
class Fetch:
    """One running download: its `download` is what subscribers see, its `sources` who may read it.

    `known_size` is what a verified manifest says of the blob, if one does. `refused` are those to
    whom the upstream said no: they get that answer, whatever the others get.
    """

    digest: Digest
    sources: list[Source]
    known_size: int | None
    _upstreams: Mapping[str, Upstream]
    _blobs: Blobs
    _keeper: Keeper
    _clock: IReactorTime
    _random: Callable[[], float]
    download: Download = attrs.field(factory=Download, init=False)
    refused: dict[Source, RegistryError] = attrs.field(factory=dict, init=False)
    far_requests: int = attrs.field(default=0, init=False)
    _partial: Partial | None = attrs.field(default=None, init=False)
    _body: BlobBody | None = attrs.field(default=None, init=False)
    _pausing: Deferred[None] | None = attrs.field(default=None, init=False)
    _has_stopped: bool = attrs.field(default=False, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)
    _granted: int = attrs.field(default=0, init=False)
    _takes_ranges: bool = attrs.field(default=True, init=False)
    _validator: str | None = attrs.field(default=None, init=False)
    _began: float = attrs.field(init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._began = self._clock.seconds()

    def open_reader(self) -> int:
        """A descriptor of the caller's own on the growing file; only after the download was `opened`."""
        if self._partial is None:
            raise Unavailable("the download has no file yet")
        return self._partial.open_reader()

    def admit(self, source: Source) -> None:
        """The upstream confirmed that `source` has the blob."""
        if source not in self.sources:
            self.sources.append(source)

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

    async def run(self) -> None:
        """Bring the blob to its end; how that went is in `download`. Raises nothing that can be foreseen."""
        try:
            self._partial = self._blobs.find_partial(self.digest)
            partial = await self._fill()
            if not await partial.is_verified():
                raise UpstreamCorrupt(f"the upstream's bytes are not {self.digest}")
        except (RegistryError, OSError) as error:
            await self._give_up(error)
        else:
            self.download.verified()
            await self._commit(partial)

    def stop(self) -> None:
        """End soon, because the daemon does: what is there stays as a partial."""
        self._has_stopped = True
        if self._body is not None:
            self._body.abort()
        if self._pausing is not None:
            self._pausing.cancel()

    async def _fill(self) -> Partial:
        """The partial with all bytes in it, by as many questions as it takes."""
        tries = 0
        while self._partial is None or self._partial.offset != self.known_size:
            before = self._written
            try:
                await self._follow(await self._ask(is_first=tries == 0))
            except UpstreamCorrupt:
                raise
            except UpstreamError as error:
                tries = 1 if self._written > before else tries + 1
                await self._pause_or_raise(error, tries)
        self._open(self.known_size)
        return self._partial

    async def _ask(self, *, is_first: bool) -> BlobBody:
        """The first source that has the blob. One that says no is not asked again while there are others."""
        while True:
            source = self.sources[0]
            try:
                return await self._upstreams[source.upstream].fetch_blob(
                    source.repository,
                    self.digest,
                    offset=self._written if self._takes_ranges else 0,
                    validator=self._validator,
                    budget_seconds=_FIRST_TRY_SECONDS if is_first else max(1.0, self._seconds_left),
                )
            except UpstreamError as error:
                if error.upstream_status == 416:
                    self._takes_ranges = False
                raise
            except RegistryError as error:
                self.refused[source] = error
                if len(self.sources) == 1:
                    raise
                self.sources.remove(source)

    async def _follow(self, body: BlobBody) -> None:
        """Write what `body` brings, to its end."""
        self._body = body
        try:
            self._agree_on_size(body.size)
            partial = await self._prepare()
            self._validator = body.validator
            if self.known_size is not None:
                self._open(self.known_size)
            excess = partial.offset - body.offset
            while chunk := await body.read():
                skipped, excess = chunk[excess:], max(0, excess - len(chunk))
                if skipped:
                    await self._write(partial, skipped)
        finally:
            self._body = None
            body.abort()
        if self.known_size is None:
            self.known_size = partial.offset
        elif partial.offset < self.known_size:
            raise UpstreamUnreachable("the upstream ended the blob early")

    async def _write(self, partial: Partial, chunk: bytes) -> None:
        after = partial.offset + len(chunk)
        if self.known_size is None:
            await self._grant(after)
        elif after > self.known_size:
            raise UpstreamCorrupt("the upstream sends more bytes than the blob has")
        if partial.is_kept:
            await self._keeper.with_emergency(len(chunk), lambda: partial.write(chunk))
        else:
            await partial.write(chunk)
        self._has_begun = True
        self.download.grew(partial.offset)

    async def _prepare(self) -> Partial:
        """The partial to write to. What cannot fit goes through a file without a name."""
        if self._partial is not None and not isinstance(self.download.state, Opening):
            return self._partial
        size = self.known_size
        is_kept = await self._keeper.has_room(max(0, (size or 0) - self._written), self.digest)
        is_too_long = size is not None and self._written > size
        if self._partial is not None and (is_too_long or not is_kept):
            await self._partial.discard()
            self._partial = None
        if self._partial is None:
            self._partial = self._blobs.create_partial(self.digest, is_kept=is_kept)
        return self._partial

    async def _grant(self, size: int) -> None:
        """Let a blob whose size nobody tells grow to `size`, a stride at a time: it may have no end."""
        while size > self._granted:
            if not await self._keeper.has_room(_STRIDE_BYTES, self.digest):
                raise Unavailable("there is no room for a blob whose size the upstream does not tell")
            self._granted += _STRIDE_BYTES

    def _agree_on_size(self, size: int | None) -> None:
        if self.known_size is None:
            self.known_size = size
        elif size is not None and size != self.known_size:
            raise UpstreamRefused(f"the blob has {self.known_size} bytes, the upstream speaks of {size}")

    def _open(self, size: int | None) -> None:
        if size is not None and isinstance(self.download.state, Opening):
            self.download.opened(size, self._written)

    async def _pause_or_raise(self, error: UpstreamError, tries: int) -> None:
        if self._has_stopped or tries >= _MAX_TRIES:
            raise error
        seconds = min(_LONGEST_PAUSE_SECONDS, 0.25 * 2**tries) * (0.5 + self._random() / 2)
        if not self._has_begun:
            if isinstance(error, CircuitOpen | UpstreamBusy) or seconds > self._seconds_left:
                raise error
        else:
            asked_for = error.retry_after_seconds or 0.0
            if asked_for > _LONGEST_RETRY_AFTER_SECONDS:
                raise error
            seconds = max(seconds, asked_for)
        self._log.info(
            "{digest} stopped at {written} bytes ({reason}); asking again in {seconds:.1f} s",
            digest=str(self.digest),
            written=self._written,
            reason=error.message,
            seconds=seconds,
        )
        self._pausing = pause(self._clock, seconds)
        try:
            await self._pausing
        except CancelledError:
            raise error from None

    async def _give_up(self, error: RegistryError | OSError) -> None:
        if isinstance(error, OSError):
            self._log.error("{digest} cannot be written: {error}", digest=str(self.digest), error=str(error))
            error = Unavailable("the mirror's disk does not take the blob")
        if self._partial is not None:
            if isinstance(error, UpstreamError) and not isinstance(error, UpstreamCorrupt):
                self._partial.park()
            else:
                await self._partial.discard()
        self.download.failed(error)

    async def _commit(self, partial: Partial) -> None:
        if not partial.is_kept:
            await partial.discard()
            return
        try:
            await self._keeper.with_emergency(0, partial.commit)
        except OSError as error:
            self._log.error("{digest} is not kept: {error}", digest=str(self.digest), error=str(error))
            await partial.discard()
        else:
            self.download.committed()

    @property
    def _written(self) -> int:
        return 0 if self._partial is None else self._partial.offset

    @property
    def _seconds_left(self) -> float:
        """Until clients that wait for headers have to be told that none came; later, for one question."""
        if self._has_begun:
            return ASK_SECONDS
        return ASK_SECONDS - (self._clock.seconds() - self._began)
