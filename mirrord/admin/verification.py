"""Verification: all that is at rest is hashed again, and what is damaged is fetched anew.

One file at a time, a slice at a time. While clients are served, it rests after each slice for as long as
that took: half of a slow disk is theirs, whatever there is to verify.

What hosted repositories hold may be mirrored too: so it is lost only when no upstream has it. Whoever pushes
it again mends it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import closing

import attrs
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mirrord.admin.hosted_ports import HostedIndex
from mirrord.admin.results import (
    ContentFetched,
    ContentLost,
    CorruptFound,
    MissingFound,
    VerificationDone,
    VerificationProgress,
)
from mirrord.admin.store_ports import Audit, Blobs, Examination, Inventory, Manifests, Sources
from mirrord.flight.cooperate import cooperate
from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Conflict, RegistryError
from mirrord.oci.names import RepositoryKey
from mirrord.oci.references import ImageReference
from mirrord.oci.routes import ManifestRoute, Target

_TELL_SECONDS = 0.5

Event = VerificationProgress | CorruptFound | MissingFound | ContentFetched | ContentLost | VerificationDone


@attrs.define(eq=False)
class _Course:
    """How far a verification is."""

    of_bytes: int
    of_entries: int
    bytes: int = 0
    entries: int = 0
    corrupt: int = 0
    fetched: int = 0
    missing: int = 0
    replaced: set[tuple[ContentKind, Digest]] = attrs.field(factory=set)

    def progress(self) -> VerificationProgress:
        return VerificationProgress(self.bytes, self.of_bytes, self.entries, self.of_entries)


@attrs.define(eq=False)
class Verifier:
    """Verifies what is at rest, one verification at a time.

    `reconciled` waits until all that is on the disk is known; `is_busy` says whether clients are being
    served; `turn` is one for all verifiers of a store.
    """

    _audit: Audit
    _reconciled: Callable[[], Awaitable[None]]
    _inventory: Inventory
    _hosted: HostedIndex
    _sources: Sources
    _manifests: Manifests
    _blobs: Blobs
    _is_busy: Callable[[], bool]
    _turn: DeferredLock
    _clock: IReactorTime

    async def verify(self) -> AsyncGenerator[Event, None]:
        """Verify everything; closed before its end, it stops where it is.

        Raises:
            Conflict: Another verification runs.
            OSError: The index cannot be read.
        """
        if self._turn.locked:
            raise Conflict("a verification runs already")
        async with self._turn:
            await self._reconciled()
            await self._inventory.flush()
            course = _Course(self._audit.total_bytes, self._audit.total_entries)
            began_at = told_at = self._clock.seconds()
            yield course.progress()
            async for page in cooperate(self._clock, self._audit.pages()):
                for entry in page:
                    async for event in self._verify(entry, course):
                        now = self._clock.seconds()
                        is_due = not isinstance(event, VerificationProgress) or now - told_at >= _TELL_SECONDS
                        if is_due:
                            told_at = now
                            yield event
            async for found in self._find_missing(course):
                yield found
            seconds = self._clock.seconds() - began_at
            yield course.progress()
            yield VerificationDone(
                course.entries, course.bytes, course.corrupt, course.fetched, seconds, course.missing
            )

    async def _verify(self, entry: Entry, course: _Course) -> AsyncGenerator[Event, None]:
        """Hash one entry; if it is damaged, have it fetched."""
        examination = self._audit.examine(entry)
        if examination is None:
            return
        before = course.bytes
        with closing(examination):
            try:
                async for count in self._hash(examination):
                    course.bytes += count
                    yield course.progress()
                is_whole = examination.is_whole
            except OSError:
                is_whole = False
            course.bytes = before + entry.size
            course.entries += 1
            yield course.progress()
            if is_whole or not examination.set_aside():
                return
        course.corrupt += 1
        kind, digest = entry.kind, Digest.parse(entry.name)
        sources, names = await self._readers(kind, digest)
        yield CorruptFound(digest, kind, names)
        yield await self._replace(sources, kind, digest, course)

    async def _find_missing(self, course: _Course) -> AsyncGenerator[Event, None]:
        """Tell of what hosted repositories should hold and is not there, and have it fetched."""
        async for page in cooperate(self._clock, self._hosted.lost()):
            for _, kind, digest in page:
                if (kind, digest) not in course.replaced:
                    course.missing += 1
                    sources, names = await self._readers(kind, digest)
                    yield MissingFound(digest, kind, names)
                    yield await self._replace(sources, kind, digest, course)

    async def _hash(self, examination: Examination) -> AsyncGenerator[int, None]:
        began_at = self._clock.seconds()
        while count := await examination.hash_slice():
            yield count
            took = self._clock.seconds() - began_at
            await deferLater(self._clock, took if self._is_busy() else 0)
            began_at = self._clock.seconds()

    async def _readers(
        self, kind: ContentKind, digest: Digest
    ) -> tuple[list[RepositoryKey], tuple[str, ...]]:
        """The mirrored repositories that may read it, and the names of all that may."""
        sources: dict[RepositoryKey, None] = {}
        async for links in cooperate(self._clock, self._inventory.links_to([digest])):
            sources.update((source, None) for source, _ in links)
        names = [ImageReference.of(source).familiar_name for source in sources]
        is_manifest = kind is ContentKind.MANIFEST
        holders = self._hosted.repositories_with(digest, is_manifest=is_manifest)
        names += [str(holder) async for holder in cooperate(self._clock, holders)]
        return list(sources), tuple(names)

    async def _replace(
        self, sources: list[RepositoryKey], kind: ContentKind, digest: Digest, course: _Course
    ) -> ContentFetched | ContentLost:
        """Fetch what is not there through a repository that may read it."""
        course.replaced.add((kind, digest))
        message = "no mirrored repository is linked to it"
        for source in sources:
            try:
                await self._fetch(source, kind, digest)
            except RegistryError as error:
                message = error.message
            else:
                course.fetched += 1
                return ContentFetched(digest)
        return ContentLost(digest, message)

    async def _fetch(self, source: RepositoryKey, kind: ContentKind, digest: Digest) -> None:
        target = Target(ManifestRoute(source.repository, digest), namespace=source.upstream)
        located = self._sources.locate(target, source.upstream)
        if kind is ContentKind.MANIFEST:
            await self._manifests.get(located, digest)
            return
        blob = await self._blobs.open(located, digest)
        with closing(blob):
            readable = blob.readable
            while readable < blob.size:
                readable = await blob.grown(readable)
