"""Verification: hash everything that is stored, and fetch damaged content again.

Files are hashed one at a time, in slices. While clients are served, each slice is followed by a pause of the
same length: half of a slow disk's time stays theirs, however much there is to verify.

Content of hosted repositories may be mirrored too, so it is lost only if no upstream has it. Pushing it again
repairs it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import closing

import attrs
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mirrord.admin.blob_download import download_blob
from mirrord.admin.results import (
    ContentFetched,
    ContentLost,
    CorruptFound,
    MissingFound,
    VerificationDone,
    VerificationProgress,
)
from mirrord.flight.cooperate import cooperate
from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Conflict, RegistryError
from mirrord.oci.names import RepositoryKey
from mirrord.oci.references import ImageReference
from mirrord.routing import Router
from mirrord.store.audit import ContentAudit, ContentExamination
from mirrord.store.browser import StoreBrowser
from mirrord.store.hosted_index import HostedIndex

_REPORT_SECONDS = 0.5

Event = VerificationProgress | CorruptFound | MissingFound | ContentFetched | ContentLost | VerificationDone


@attrs.define(eq=False)
class _Counts:
    """The counts of one verification so far, and the content that it has tried to fetch again."""

    of_bytes: int
    of_entries: int
    bytes: int = 0
    entries: int = 0
    corrupt: int = 0
    fetched: int = 0
    missing: int = 0
    replaced: set[tuple[ContentKind, Digest]] = attrs.field(factory=set)

    def progress(self) -> VerificationProgress:
        return VerificationProgress(
            bytes=self.bytes, of_bytes=self.of_bytes, entries=self.entries, of_entries=self.of_entries
        )


@attrs.frozen(eq=False, kw_only=True)
class Verifier:
    """Verifies stored content, one verification at a time.

    `reconciled` waits until everything on the disk is known; `is_busy` returns whether clients are being
    served; `lock` is shared by all verifiers of a store.
    """

    _audit: ContentAudit
    _reconciled: Callable[[], Awaitable[None]]
    _browser: StoreBrowser
    _hosted: HostedIndex
    _router: Router
    _is_busy: Callable[[], bool]
    _lock: DeferredLock
    _clock: IReactorTime

    async def verify(self) -> AsyncGenerator[Event, None]:
        """Verify everything; closing the generator stops it.

        Raises:
            Conflict: Another verification is running.
            OSError: The index cannot be read.
        """
        if self._lock.locked:
            raise Conflict("a verification is running already")
        async with self._lock:
            await self._reconciled()
            await self._browser.flush()
            counts = _Counts(self._audit.total_bytes, self._audit.total_entries)
            started_at = reported_at = self._clock.seconds()
            yield counts.progress()
            async for page in cooperate(self._clock, self._audit.pages()):
                for entry in page:
                    async for event in self._verify(entry, counts):
                        now = self._clock.seconds()
                        is_progress = isinstance(event, VerificationProgress)
                        if not is_progress or now - reported_at >= _REPORT_SECONDS:
                            reported_at = now
                            yield event
            async for found in self._find_missing(counts):
                yield found
            seconds = self._clock.seconds() - started_at
            yield counts.progress()
            yield VerificationDone(
                entries=counts.entries,
                bytes=counts.bytes,
                corrupt=counts.corrupt,
                fetched=counts.fetched,
                seconds=seconds,
                missing=counts.missing,
            )

    async def _verify(self, entry: Entry, counts: _Counts) -> AsyncGenerator[Event, None]:
        """Hash one entry; fetch it again if it is damaged."""
        examination = self._audit.examine(entry)
        if examination is None:
            return
        before = counts.bytes
        with closing(examination):
            try:
                async for count in self._hash(examination):
                    counts.bytes += count
                    yield counts.progress()
                is_whole = examination.is_whole
            except OSError:
                is_whole = False
            counts.bytes = before + entry.size
            counts.entries += 1
            yield counts.progress()
            if is_whole or not examination.set_aside():
                return
        counts.corrupt += 1
        kind, digest = entry.kind, Digest.parse(entry.name)
        keys, names = await self._readers(kind, digest)
        yield CorruptFound(digest, kind, names)
        yield await self._replace(keys, kind, digest, counts)

    async def _find_missing(self, counts: _Counts) -> AsyncGenerator[Event, None]:
        """Report hosted content that is missing on the disk, and fetch it."""
        async for page in cooperate(self._clock, self._hosted.lost()):
            for _, kind, digest in page:
                if (kind, digest) not in counts.replaced:
                    counts.missing += 1
                    keys, names = await self._readers(kind, digest)
                    yield MissingFound(digest, kind, names)
                    yield await self._replace(keys, kind, digest, counts)

    async def _hash(self, examination: ContentExamination) -> AsyncGenerator[int, None]:
        started_at = self._clock.seconds()
        while count := await examination.hash_slice():
            yield count
            took = self._clock.seconds() - started_at
            await deferLater(self._clock, took if self._is_busy() else 0)
            started_at = self._clock.seconds()

    async def _readers(
        self, kind: ContentKind, digest: Digest
    ) -> tuple[list[RepositoryKey], tuple[str, ...]]:
        """Return the mirrored repositories that can read the content, and the names of all that can."""
        keys: dict[RepositoryKey, None] = {}
        async for links in cooperate(self._clock, self._browser.links_to([digest])):
            keys.update((key, None) for key, _ in links)
        names = [ImageReference.of(key).familiar_name for key in keys]
        hosted = self._hosted.repositories_with(digest, is_manifest=kind is ContentKind.MANIFEST)
        names += [str(name) async for name in cooperate(self._clock, hosted)]
        return list(keys), tuple(names)

    async def _replace(
        self, keys: list[RepositoryKey], kind: ContentKind, digest: Digest, counts: _Counts
    ) -> ContentFetched | ContentLost:
        """Fetch content through a repository that can read it."""
        counts.replaced.add((kind, digest))
        message = "no mirrored repository is linked to it"
        for key in keys:
            try:
                await self._fetch(key, kind, digest)
            except RegistryError as error:
                message = error.message
            else:
                counts.fetched += 1
                return ContentFetched(digest)
        return ContentLost(digest, message)

    async def _fetch(self, key: RepositoryKey, kind: ContentKind, digest: Digest) -> None:
        repository = self._router.locate_image(ImageReference.of(key))
        if kind is ContentKind.MANIFEST:
            await repository.get_manifest(digest)
            return
        await download_blob(repository, digest, self._clock)
