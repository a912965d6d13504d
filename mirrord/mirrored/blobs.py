"""Pulling blobs: from the store, or by joining the one download that there is of each.

Downloads are kept by digest alone, permission by source (design.md, sections 3.1 and 3.7): whoever
wants a blob that is there, or on its way, through a repository that has not earned it yet, is let in
after the upstream has confirmed by HEAD that this repository has it.
"""

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from mirrord.flight.single import SingleFlight
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.blob_readers import CachedBlob, GrowingBlob
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.fetch import BlobFetch
from mirrord.mirrored.fetch_policy import BlobFetchPolicy
from mirrord.mirrored.ports import BlobFiles, LinkIndex, Upstream
from mirrord.mirrored.timeouts import ASK_SECONDS, UNHELD_SECONDS, with_timeout
from mirrord.observe.events import Event
from mirrord.oci.cache_status import CacheResult, with_cache_status
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError, Unavailable, UpstreamCorrupt, UpstreamError, UpstreamTimeout
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import RepositoryKey
from mirrord.repository import BlobReader, BlobSizeResult

_CORRUPT_IN_A_ROW = 2
_CORRUPT_SECONDS = 60.0


@attrs.frozen
class DownloadProgress:
    """A running download, for people; `bytes_per_second` is what came, on average since it began."""

    digest: Digest
    source: RepositoryKey
    written: int
    size: int | None
    subscribers: int
    bytes_per_second: int

    @classmethod
    def of(cls, fetch: BlobFetch) -> "DownloadProgress":
        """How far a fetch is."""
        asking, written = fetch.asking, fetch.download.written
        came = max(0, written - fetch.resumed_bytes)
        rate = int(came / asking.seconds) if asking.seconds > 0 else 0
        return cls(asking.digest, asking.sources[0], written, fetch.known_size, fetch.subscribers, rate)


@attrs.define(eq=False)
class BlobDownloads:
    """Answers GET and HEAD of blobs. `random` gives numbers in [0, 1)."""

    _upstreams: Mapping[str, Upstream]
    _blobs: BlobFiles
    _index: LinkIndex
    _keeper: CacheWriter
    _clock: IReactorTime
    _random: Callable[[], float]
    _corrupt: AgedCache[tuple[RepositoryKey, Digest], int]
    _running: dict[Digest, BlobFetch] = attrs.field(factory=dict, init=False)
    _all_ended: Deferred[None] | None = attrs.field(default=None, init=False)
    _asking: SingleFlight[tuple[RepositoryKey, Digest], int | None] = attrs.field(
        factory=SingleFlight, init=False
    )
    _log = Logger()

    @with_cache_status
    async def open(self, source: RepositoryKey, digest: Digest) -> BlobReader:
        """The blob, readable from now on; returns as soon as its size is known.

        Raises:
            BlobUnknown, NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed before the size was known.
            Unavailable: The disk did.
        """
        if self._index.link(source, digest) is not None:
            held = self._blobs.open(digest)
            if held is not None:
                return CachedBlob(held, CacheResult.hit())
        until = self._clock.seconds() + UNHELD_SECONDS
        try:
            return await with_timeout(self._clock, UNHELD_SECONDS, self._open(source, digest, until))
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not begin the blob in time") from None

    @with_cache_status
    async def head(self, source: RepositoryKey, digest: Digest) -> BlobSizeResult:
        """That the blob can be pulled, and its size; begins no download.

        Raises:
            BlobUnknown, NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed.
        """
        is_linked = self._index.link(source, digest) is not None
        size = self._blobs.size_of(digest)
        if is_linked and size is not None:
            return BlobSizeResult(size, CacheResult.hit())
        fetch = self._running.get(digest)
        is_admitted = fetch is not None and (is_linked or source in fetch.asking.sources)
        if fetch is not None and is_admitted and fetch.known_size is not None:
            return BlobSizeResult(fetch.known_size, CacheResult.collapsed())
        return BlobSizeResult(await self._ask(source, digest), CacheResult.asked(200))

    @property
    def running(self) -> list[DownloadProgress]:
        """The running downloads."""
        return [DownloadProgress.of(fetch) for fetch in self._running.values()]

    async def stop(self) -> None:
        """End the running downloads; what is there of them stays, to be resumed."""
        for fetch in list(self._running.values()):
            fetch.stop()
        if self._running:
            self._all_ended = Deferred()
            await self._all_ended

    async def _open(self, source: RepositoryKey, digest: Digest, until: float) -> BlobReader:
        """A blob that is not held, or not known to be readable through `source`."""
        while not self._may_read(source, digest):
            await self._ask(source, digest)
        held = self._blobs.open(digest)
        if held is not None:
            return CachedBlob(held, CacheResult.asked(200))
        fetch = self._running.get(digest)
        outcome = CacheResult.stored() if fetch is None else CacheResult.collapsed()
        if fetch is None:
            fetch = self._begin(source, digest)
        elif source not in fetch.asking.refused:
            fetch.asking.admit(source)
        size = await _size_of(fetch, source)
        if outcome == CacheResult.stored() and not fetch.is_kept:
            outcome = CacheResult.asked(200)
        upstream = self._upstreams[source.upstream]
        return GrowingBlob(fetch, upstream, source.repository, size, outcome, self._clock, until)

    def _may_read(self, source: RepositoryKey, digest: Digest) -> bool:
        """Whether nobody needs to be asked first: it is linked, or the download itself will ask."""
        fetch = self._running.get(digest)
        if self._index.link(source, digest) is not None:
            return True
        if fetch is not None:
            return source in fetch.asking.sources
        return self._blobs.size_of(digest) is None

    async def _ask(self, source: RepositoryKey, digest: Digest) -> int | None:
        """The blob's size, as the upstream tells it; what is there may then be read through `source`.

        A size that is only told is not written down: nobody has verified it.
        """
        size = await self._asking.run(
            (source, digest),
            lambda: self._upstreams[source.upstream].head_blob(
                source.repository, digest, budget_seconds=ASK_SECONDS
            ),
        )
        held = self._blobs.size_of(digest)
        if held is not None:
            self._index.add_links(source, [Descriptor(OCTET_STREAM, digest, held)])
        fetch = self._running.get(digest)
        if fetch is not None:
            fetch.asking.admit(source)
        return size

    def _begin(self, source: RepositoryKey, digest: Digest) -> BlobFetch:
        self._raise_if_corrupt(source, digest)
        link = self._index.link(source, digest)
        asking = BlobFetchPolicy(digest, [source], self._upstreams, self._clock, self._random)
        fetch = BlobFetch(asking, None if link is None else link.size, self._blobs, self._keeper)
        self._running[digest] = fetch
        Deferred.fromCoroutine(fetch.run()).addBoth(self._end, fetch)
        return fetch

    def _end(self, result: Failure | None, fetch: BlobFetch) -> None:
        digest, sources = fetch.asking.digest, fetch.asking.sources
        del self._running[digest]
        if isinstance(result, Failure):
            self._log.failure(
                "the download of {digest} broke",
                failure=result,
                digest=str(digest),
                event=Event.DOWNLOAD_BROKEN,
            )
            fetch.download.failed(Unavailable("the download broke"))
        match fetch.error:
            case UpstreamCorrupt() as error:
                self._tell(fetch, error, Event.BLOB_CORRUPT)
                for source in sources:
                    memory = self._corrupt.get((source, digest))
                    self._corrupt.put((source, digest), 1 if memory is None else memory.value + 1)
            case UpstreamError() as error if fetch.asking.has_begun and not fetch.asking.has_stopped:
                self._tell(fetch, error, Event.DOWNLOAD_BROKEN)
            case None:
                for source in sources:
                    self._corrupt.delete((source, digest))
                    self._index.add_links(source, [Descriptor(OCTET_STREAM, digest, fetch.known_size or 0)])
        if self._all_ended is not None and not self._running:
            self._all_ended.callback(None)

    def _tell(self, fetch: BlobFetch, error: UpstreamError, event: Event) -> None:
        """Say once, for all its clients, how a download failed."""
        source = fetch.asking.sources[0]
        self._log.emit(
            LogLevel.error if event is Event.BLOB_CORRUPT else LogLevel.warn,
            "{source}@{digest} stays without its end: {error}",
            source=str(source),
            error=error.message,
            upstream=source.upstream,
            repository=str(source.repository),
            digest=str(fetch.asking.digest),
            event=event,
        )

    def _raise_if_corrupt(self, source: RepositoryKey, digest: Digest) -> None:
        """Do not fetch again and again what came wrong twice in a row."""
        memory = self._corrupt.get((source, digest))
        if memory and memory.value >= _CORRUPT_IN_A_ROW and memory.age_seconds < _CORRUPT_SECONDS:
            raise UpstreamCorrupt("the upstream sent wrong bytes for this blob, more than once")


async def _size_of(fetch: BlobFetch, source: RepositoryKey) -> int:
    """The size of a running download; of an empty one when it is verified, for nothing could be held back.

    Raises:
        RegistryError: It failed, or the upstream refused `source`, whatever it gave to others.
    """
    refused = fetch.asking.refused
    try:
        size = await fetch.download.sized()
        if size == 0:
            await fetch.download.grown(-1)
    except RegistryError as error:
        raise refused.get(source, error) from None
    if source in refused:
        raise refused[source]
    return size
