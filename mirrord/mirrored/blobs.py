"""BlobDownloads: blobs from the store, or from the one running download of each.

Downloads are kept by digest alone, permission by repository (docs/architecture.md, invariants 1 and 7): a
blob that is stored, or being downloaded, is read through a repository that has no link to it only after that
repository's upstream has confirmed by HEAD that it has the blob.
"""

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from mirrord.flight.slots import DownloadSlots, Interest
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.confirmation import LinkConfirmation
from mirrord.mirrored.fetch import BlobFetch
from mirrord.mirrored.fetch_policy import BlobFetchPolicy
from mirrord.mirrored.growing_blob import GrowingBlob
from mirrord.mirrored.ports import BlobFiles, LinkIndex, Upstream
from mirrord.mirrored.size_hints import SizeHints
from mirrord.mirrored.timeouts import SLOT_SECONDS, UNCACHED_SECONDS, with_timeout
from mirrord.observe.events import Event
from mirrord.oci.cache_status import CacheResult, with_cache_status
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    RegistryError,
    TooManyDownloads,
    Unavailable,
    UpstreamCorrupt,
    UpstreamError,
    UpstreamTimeout,
)
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import RepositoryKey
from mirrord.repository import BlobResult, BlobSizeResult

_MAX_CORRUPT_IN_A_ROW = 2
_CORRUPT_SECONDS = 60.0
_SLOT_RETRY_SECONDS = 10.0


@attrs.frozen(kw_only=True)
class DownloadProgress:
    """The progress of a running download, for /status; `bytes_per_second` is the average since it started."""

    digest: Digest
    source: RepositoryKey
    written: int
    size: int | None
    subscribers: int
    bytes_per_second: int

    @classmethod
    def of(cls, fetch: BlobFetch) -> "DownloadProgress":
        """Return the progress of a fetch."""
        policy, written = fetch.policy, fetch.download.written
        received = max(0, written - fetch.resumed_bytes)
        return cls(
            digest=policy.digest,
            source=policy.repositories[0],
            written=written,
            size=fetch.known_size,
            subscribers=fetch.slot.readers,
            bytes_per_second=int(received / policy.seconds) if policy.seconds > 0 else 0,
        )


@attrs.define(eq=False, kw_only=True)
class BlobDownloads:
    """Serves GET and HEAD of blobs. `random` returns numbers in [0, 1)."""

    _upstreams: Mapping[str, Upstream]
    _files: BlobFiles
    _index: LinkIndex
    _writer: CacheWriter
    _confirmation: LinkConfirmation
    _hints: SizeHints
    _clock: IReactorTime
    _random: Callable[[], float]
    _corrupt: AgedCache[tuple[RepositoryKey, Digest], int]
    slots: DownloadSlots = attrs.field(factory=DownloadSlots)
    _running: dict[Digest, BlobFetch] = attrs.field(factory=dict, init=False)
    _all_ended: Deferred[None] | None = attrs.field(default=None, init=False)
    _log = Logger()

    @with_cache_status()
    async def open(self, key: RepositoryKey, digest: Digest, client: str | None = None) -> BlobResult:
        """Open a blob for a client; returns as soon as its size is known.

        Raises:
            BlobUnknown, NameUnknown, Denied: The upstream refused it.
            UpstreamError: The upstream failed before the size was known.
            TooManyDownloads: Other downloads had all slots for SLOT_SECONDS.
            Unavailable: The disk failed.
        """
        if self._index.link(key, digest) is not None:
            stored = self._files.open(digest)
            if stored is not None:
                return BlobResult(stored, CacheResult.hit())
        until = self._clock.seconds() + UNCACHED_SECONDS
        try:
            return await with_timeout(self._clock, UNCACHED_SECONDS, self._open(key, digest, client, until))
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not begin the blob in time") from None

    @with_cache_status()
    async def head(self, key: RepositoryKey, digest: Digest) -> BlobSizeResult:
        """Return the size of a blob that can be pulled; starts no download.

        Raises:
            BlobUnknown, NameUnknown, Denied: The upstream refused it.
            UpstreamError: The upstream failed.
        """
        is_linked = self._index.link(key, digest) is not None
        size = self._files.size_of(digest)
        if is_linked and size is not None:
            return BlobSizeResult(size, CacheResult.hit())
        fetch = self._running.get(digest)
        may_join = fetch is not None and (is_linked or key in fetch.policy.answered)
        if fetch is not None and may_join and fetch.known_size is not None:
            return BlobSizeResult(fetch.known_size, CacheResult.collapsed())
        return BlobSizeResult(await self.confirm(key, digest), CacheResult.forwarded(200))

    def is_unconfirmed(self, key: RepositoryKey, digest: Digest) -> bool:
        """Return whether a blob is stored or being downloaded, but for other repositories only."""
        fetch = self._running.get(digest)
        if self._index.is_linked(key, digest):
            return False
        if fetch is not None:
            return key not in fetch.policy.repositories
        return self._files.size_of(digest) is not None

    async def confirm(self, key: RepositoryKey, digest: Digest) -> int | None:
        """Return the size of a blob by HEAD; the repository may then read what is stored or being downloaded.

        Raises:
            BlobUnknown, NameUnknown, Denied: The upstream refused it.
            UpstreamError: The upstream failed.
        """
        size = await self._confirmation.confirm_blob(key, digest)
        fetch = self._running.get(digest)
        if fetch is not None:
            fetch.policy.add(key)
        return size

    @property
    def running(self) -> list[DownloadProgress]:
        """The running downloads, without those that wait for a slot."""
        return [DownloadProgress.of(fetch) for fetch in self._running.values() if fetch.slot.is_running]

    def written(self, digest: Digest) -> int | None:
        """Return the bytes written by the running download of a blob; None if there is none."""
        fetch = self._running.get(digest)
        return None if fetch is None else fetch.download.written

    async def stop(self) -> None:
        """End the running downloads; what has arrived stays, to be resumed."""
        fetches = list(self._running.values())
        for fetch in fetches:
            if not fetch.slot.is_running:
                fetch.slot.release()
        for fetch in fetches:
            fetch.stop()
        if self._running:
            self._all_ended = Deferred()
            await self._all_ended

    async def _open(self, key: RepositoryKey, digest: Digest, client: str | None, until: float) -> BlobResult:
        """Open a blob that is not stored, or not known to be readable through the repository."""
        while self.is_unconfirmed(key, digest):
            await self.confirm(key, digest)
        stored = self._files.open(digest)
        if stored is not None:
            return BlobResult(stored, CacheResult.forwarded(200))
        fetch = self._running.get(digest)
        if fetch is not None and (fetch.slot.is_parking or fetch.error is not None):
            await fetch.slot.released()
            return await self._open(key, digest, client, until)
        cache = CacheResult.stored() if fetch is None else CacheResult.collapsed()
        interest = Interest.BACKGROUND if client is None else Interest.CLIENT
        if fetch is None:
            fetch = self._create(key, digest, client)
            reader = fetch.slot.enter(interest)
            self._start(fetch)
        else:
            reader = fetch.slot.enter(interest)
        try:
            if self._index.is_linked(key, digest) and key not in fetch.policy.refusals:
                fetch.policy.add(key)
            await self._wait_for_slot(fetch)
            size = await _size_of(fetch, key)
            if key in fetch.policy.answered:
                if cache == CacheResult.stored() and not fetch.is_kept:
                    cache = CacheResult.forwarded(200)
                blob = GrowingBlob(
                    fetch=fetch,
                    reader=reader,
                    upstream=self._upstreams[key.upstream],
                    repository=key.repository,
                    size=size,
                    clock=self._clock,
                    until=until,
                )
                return BlobResult(blob, cache)
            # The bytes came through another repository, or from a partial.
            await self.confirm(key, digest)
        except BaseException:
            reader.leave()
            raise
        reader.leave()
        return await self._open(key, digest, client, until)

    async def _wait_for_slot(self, fetch: BlobFetch) -> None:
        """Wait until the download has a slot, or has ended without one."""

        async def granted() -> None:
            await fetch.slot.granted()

        try:
            await with_timeout(self._clock, SLOT_SECONDS, granted())
        except TimeoutError:
            raise TooManyDownloads(
                "the mirror is busy with other downloads", retry_after_seconds=_SLOT_RETRY_SECONDS
            ) from None

    def _create(self, key: RepositoryKey, digest: Digest, client: str | None) -> BlobFetch:
        self._raise_if_corrupt(key, digest)
        link = self._index.link(key, digest)
        policy = BlobFetchPolicy(
            digest=digest,
            repositories=[key],
            answered=set() if link is None else {key},
            upstreams=self._upstreams,
            clock=self._clock,
            random=self._random,
        )
        fetch = BlobFetch(
            policy,
            self._hints.get(key, digest) if link is None else link.size,
            client=client,
            files=self._files,
            writer=self._writer,
            slots=self.slots,
        )
        self._running[digest] = fetch
        return fetch

    def _start(self, fetch: BlobFetch) -> None:
        """Run a download, which has its first reader."""
        Deferred.fromCoroutine(fetch.run()).addBoth(self._end, fetch)

    def _end(self, result: Failure | None, fetch: BlobFetch) -> None:
        digest, keys = fetch.policy.digest, fetch.policy.repositories
        del self._running[digest]
        if isinstance(result, Failure):
            self._log.failure(
                "download of {digest} failed",
                failure=result,
                digest=str(digest),
                event=Event.DOWNLOAD_BROKEN,
            )
            fetch.download.failed(Unavailable("the download failed"))
        match fetch.error:
            case UpstreamCorrupt() as error:
                self._report(fetch, error, Event.BLOB_CORRUPT)
                for key in keys:
                    count = self._corrupt.get((key, digest))
                    self._corrupt.put((key, digest), 1 if count is None else count.value + 1)
            case UpstreamError() as error if fetch.policy.has_begun and not fetch.policy.is_stopped:
                self._report(fetch, error, Event.DOWNLOAD_BROKEN)
            case None:
                for key in keys:
                    self._corrupt.delete((key, digest))
        if fetch.known_size is not None and not isinstance(fetch.error, UpstreamCorrupt):
            for key in fetch.policy.answered:
                self._index.add_links(key, [Descriptor(OCTET_STREAM, digest, fetch.known_size)])
        fetch.slot.release()
        if self._all_ended is not None and not self._running:
            self._all_ended.callback(None)

    def _report(self, fetch: BlobFetch, error: UpstreamError, event: Event) -> None:
        """Log once, for all its clients, how a download failed."""
        key = fetch.policy.repositories[0]
        self._log.emit(
            LogLevel.error if event is Event.BLOB_CORRUPT else LogLevel.warn,
            "download of {source}@{digest} failed: {error}",
            source=str(key),
            error=error.message,
            upstream=key.upstream,
            repository=str(key.repository),
            digest=str(fetch.policy.digest),
            event=event,
        )

    def _raise_if_corrupt(self, key: RepositoryKey, digest: Digest) -> None:
        """Refuse to download a blob that was corrupt several times in a row."""
        corrupt = self._corrupt.get((key, digest))
        if (
            corrupt is not None
            and corrupt.value >= _MAX_CORRUPT_IN_A_ROW
            and corrupt.age_seconds < _CORRUPT_SECONDS
        ):
            raise UpstreamCorrupt("the upstream repeatedly sent wrong bytes for this blob")


async def _size_of(fetch: BlobFetch, key: RepositoryKey) -> int:
    """Return the size of a running download; that of an empty blob only after verification.

    Raises:
        RegistryError: It failed, or the upstream refused `key`, even if it sent the blob for others.
    """
    refusals = fetch.policy.refusals
    try:
        size = await fetch.download.sized()
        if size == 0:
            await fetch.download.grown(-1)
    except RegistryError as error:
        raise refusals.get(key, error) from None
    if key in refusals:
        raise refusals[key]
    return size
