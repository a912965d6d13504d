"""Reconciliation: make the index agree with the files, one small folder at a time while the daemon serves.

What the index lacks after a kill -9 between a rename and the next batch, after the loss of an index or after
an upgrade is corrected here; until then a file that it lacks is adopted when it is first requested.
"""

from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.hosted_files import HostedFiles
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.layout import FanOut, Layout
from mirrord.store.quarantine import Quarantine
from mirrord.store.threads import Threads

FILES_A_SLICE = 64

LOST_REPORTED = 20
"""A folder that was emptied may have had a million files."""

Step = Deferred[None] | None
"""A slice of the work; the next one waits for its Deferred."""


@attrs.frozen
class _Listing:
    """The files of the same prefix in the cache and in the hosted folder, by name, with their sizes."""

    cached: dict[str, int]
    hosted: dict[str, int]

    @classmethod
    def read(cls, cached: Path, hosted: Path) -> "_Listing":
        """List two folders; raises OSError if the disk failed."""
        return cls(disk.sizes(cached), disk.sizes(hosted))


@attrs.define(eq=False, kw_only=True)
class Reconciliation:
    """Adopts files that the index lacks, drops rows without a file, and moves what is in the wrong folder.

    A file of the hosted folder that no record accounts for goes to quarantine. What hosted repositories link
    to and the disk lacks stays linked: pushing it again repairs it, and until then it is not served.
    """

    _layout: Layout
    _contents: Contents
    _hosted: HostedIndex
    _files: HostedFiles
    _quarantine: Quarantine
    _threads: Threads
    adopted: int = attrs.field(default=0, init=False)
    dropped: int = attrs.field(default=0, init=False)
    moved: int = attrs.field(default=0, init=False)
    left: int = attrs.field(default=0, init=False)
    lost: int = attrs.field(default=0, init=False)
    _log = Logger()

    def slices(self) -> Iterator[Step]:
        """Iterate over the work in small steps, for a Cooperator.

        Raises:
            OSError: The disk failed.
        """
        for cached, hosted in zip(
            self._layout.mirrored.fan_outs(), self._layout.hosted.fan_outs(), strict=True
        ):
            listings: list[_Listing] = []
            yield self._threads.run(_Listing.read, cached.path, hosted.path).addCallback(listings.append)
            (listing,) = listings
            yield from self._adopt_cached(cached, listing)
            yield from self._adopt_hosted(hosted, listing)
            yield from self._drop(cached, hosted, listing)
        yield from self._restore_lost()
        if self.adopted or self.dropped:
            self._log.info(
                "index reconciled with the files: {adopted} files added, {dropped} rows removed",
                adopted=self.adopted,
                dropped=self.dropped,
            )
        if self.moved or self.left:
            self._log.info(
                "files of hosted repositories moved to {folder}: {moved}; left in the cache: {left}",
                folder=str(self._layout.hosted_root),
                moved=self.moved,
                left=self.left,
            )

    def _adopt_cached(self, folder: FanOut, listing: _Listing) -> Iterator[Step]:
        for number, (name, size) in enumerate(listing.cached.items()):
            if number % FILES_A_SLICE == 0:
                yield None
            digest = folder.digest_of(name)
            if digest is None or not (folder.path / name).exists():
                continue
            row = self._contents.get(folder.kind, digest)
            if self._contents.removals.is_running(folder.kind, digest):
                continue
            if row is None:
                row = self._contents.add(folder.kind, digest, size)
                self.adopted += 1
            if row.is_hosted and name in listing.hosted:
                yield Deferred.fromCoroutine(self._files.drop_cached(folder.kind, digest))
            elif self._contents.is_hosted(folder.kind, digest):
                yield self._guarded(Deferred.fromCoroutine(self._take(folder.kind, digest)))

    def _adopt_hosted(self, folder: FanOut, listing: _Listing) -> Iterator[Step]:
        for number, (name, size) in enumerate(listing.hosted.items()):
            if number % FILES_A_SLICE == 0:
                yield None
            digest = folder.digest_of(name)
            if digest is None:
                continue
            row = self._contents.get(folder.kind, digest)
            if row is not None and (row.is_hosted or self._contents.is_hosted(folder.kind, digest)):
                continue
            if self._contents.is_hosted(folder.kind, digest):
                self._contents.add(folder.kind, digest, size)
                self.adopted += 1
            else:
                moving = Deferred.fromCoroutine(self._quarantine.put_unrecorded(folder.kind, digest))
                yield self._guarded(moving)

    def _drop(self, cached: FanOut, hosted: FanOut, listing: _Listing) -> Iterator[Step]:
        for page in self._contents.with_prefix(cached.kind, cached.prefix):
            for row in page:
                digest = Digest.parse(row.digest)
                name = digest.encoded
                is_listed = name in listing.cached or name in listing.hosted
                if not is_listed and not (cached.path / name).exists() and not (hosted.path / name).exists():
                    self.dropped += self._contents.drop(cached.kind, digest)
            yield None

    def _restore_lost(self) -> Iterator[Step]:
        """Look in quarantine for what is linked but not on the disk, and report what is lost."""
        for page in self._hosted.lost():
            for repository, kind, digest in page:
                if self._quarantine.has(kind, digest):
                    yield self._guarded(Deferred.fromCoroutine(self._restore(kind, digest)))
                if self._contents.get(kind, digest) is None:
                    self._report_lost(repository, kind, digest)
            yield None
        if self.lost > LOST_REPORTED:
            self._log.error(
                "hosted repositories have lost {count} blobs and manifests in all", count=self.lost
            )

    def _report_lost(self, repository: RepositoryName, kind: ContentKind, digest: Digest) -> None:
        self.lost += 1
        if self.lost <= LOST_REPORTED:
            self._log.error(
                "hosted repository {repository} has lost a {kind}; push it again: {digest}",
                repository=str(repository),
                kind=str(kind),
                digest=str(digest),
            )

    async def _take(self, kind: ContentKind, digest: Digest) -> None:
        if await self._files.take_from_cache(kind, digest):
            self.moved += 1
        else:
            self.left += 1

    async def _restore(self, kind: ContentKind, digest: Digest) -> None:
        size = await self._quarantine.restore(kind, digest)
        if size is not None:
            self._contents.add(kind, digest, size)

    def _guarded(self, step: Deferred[None]) -> Deferred[None]:
        """Let a step that the disk refuses not end the others; the first reason is logged."""

        def log(failure: Failure) -> None:
            failure.trap(OSError)
            if not self.left:
                self._log.warn("files stay where they are: {error}", error=failure.getErrorMessage())
            self.left += 1

        return step.addErrback(log)
