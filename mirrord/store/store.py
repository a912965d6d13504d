"""The store: one folder on a disk, opened by one daemon."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import CooperativeTask, Cooperator, TaskFinished, TaskStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.oci.content import ContentKind
from mirrord.store import disk, recovery, reserve
from mirrord.store.audit import ContentAudit
from mirrord.store.blobs import BlobStore
from mirrord.store.browser import StoreBrowser
from mirrord.store.contents import BodyCache, Contents
from mirrord.store.damaged import DamagedContent
from mirrord.store.database import Database
from mirrord.store.disk import StoreLock
from mirrord.store.eviction import EvictionStore
from mirrord.store.hosted_files import HostedFiles
from mirrord.store.hosted_gc import HostedGCStore
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.journal import HostedJournal
from mirrord.store.layout import FOLDER_MODE, Layout
from mirrord.store.manifests import ManifestStore
from mirrord.store.mirrored_index import MirroredIndex
from mirrord.store.partials import PartialFile, PartialStore
from mirrord.store.quarantine import Quarantine
from mirrord.store.reconciliation import Reconciliation
from mirrord.store.snapshots import SnapshotSchedule
from mirrord.store.spare_files import SpareFiles, delete_spare_files
from mirrord.store.threads import Threads
from mirrord.store.uploads import UploadContext, Uploads

CACHE_BYTES = 4 * 1024 * 1024

ReconciliationTask: TypeAlias = CooperativeTask[Iterator[Deferred[None] | None]]


@attrs.define(eq=False, kw_only=True)
class Store:
    """An open store.

    `blobs`, `manifests` and `index` serve pulls, `uploads` and `hosted` serve pushes, `eviction` and
    `hosted_gc` serve the collector, `browser` and `audit` serve the operator. All of them share `database`
    and `contents`.
    """

    blobs: BlobStore
    manifests: ManifestStore
    index: MirroredIndex
    uploads: Uploads
    hosted: HostedIndex
    eviction: EvictionStore
    hosted_gc: HostedGCStore
    browser: StoreBrowser
    audit: ContentAudit
    database: Database
    contents: Contents
    _partials: PartialStore
    _spare_files: SpareFiles
    quarantine: Quarantine
    _snapshots: SnapshotSchedule
    _journal: HostedJournal
    _reconciliation: ReconciliationTask
    _lock: StoreLock

    @property
    def trouble(self) -> str | None:
        """Why the index cannot be written, so that new pulls may be forgotten; None if it can."""
        return self.database.trouble

    @property
    def damaged(self) -> Deferred[str]:
        """Fires with the reason when the index is found damaged: hosted repositories are read-only then.

        The next start rebuilds it, without losing any of their content.
        """
        return self.database.damaged

    async def reconciled(self) -> None:
        """Wait until index and files agree, or could not be compared: a while after a start."""
        with contextlib.suppress(TaskStopped, OSError):
            await self._reconciliation.whenDone()

    async def close(self) -> None:
        """Park partials, release uploads, write everything to the disk, and unlock the store."""
        with contextlib.suppress(TaskFinished):
            self._reconciliation.stop()
        await self._partials.park_all()
        await self._spare_files.stop()
        self.uploads.release_all()
        await self._snapshots.stop()
        await self.database.close()
        self._journal.close()
        self._lock.release()


def open_store(
    root: Path,
    hosted_root: Path | None = None,
    *,
    clock: IReactorTime,
    threads: Threads,
    monotonic: Callable[[], float],
    wall_clock: Callable[[], float],
    token: Callable[[], str] = lambda: token_hex(16),
    has_room: Callable[[Path, int], bool] = lambda _folder, _size: True,
    cache_bytes: int = CACHE_BYTES,
) -> Store:
    """Open the store in `root`, created if it does not exist; the time does not depend on its size.

    The content of hosted repositories is in `hosted_root`, by default inside `root`. `monotonic` returns
    seconds that cannot be set (for service time), `wall_clock` those that are shown, `token` the unguessable
    part of the name of an upload, `has_room` whether so many bytes fit on the file system of a folder.

    Raises:
        StoreInUse: Another daemon uses it.
        HostedContentMissing: The folder of hosted repositories is not mounted, or not theirs.
        JournalDamaged: The journal of hosted repositories lacks changes.
        OSError: The disk failed, or a later version wrote the index.
    """
    layout = Layout(root) if hosted_root is None else Layout(root, hosted_root)
    lock = _enter(layout)
    try:
        # What was being written or deleted when an earlier run ended: one slice of a sweep at most.
        disk.unlink_all([*layout.mirrored.scratch.iterdir(), *layout.hosted.scratch.iterdir()])
        delete_spare_files(layout.spare)
        recovery.require_hosted_content(layout)
        opened = reserve.open_index(layout)
    except BaseException:
        lock.release()
        raise
    database = Database(
        reader=opened.reader,
        writer=opened.writer,
        journal=opened.journal,
        condemned=layout.condemned,
        threads=threads,
        clock=clock,
        monotonic=monotonic,
        service_seconds=opened.service_seconds,
    )
    contents, index = Contents(database, BodyCache(cache_bytes)), MirroredIndex(database)

    def committed(partial: PartialFile) -> None:
        contents.add(ContentKind.BLOB, partial.digest, partial.offset)

    spare_files = SpareFiles(folder=layout.spare, scratch=layout.mirrored.scratch, threads=threads)
    spare_files.fill()
    partials = PartialStore(
        layout=layout,
        threads=threads,
        now=database.now,
        removals=contents.removals,
        spare_files=spare_files,
        committed=committed,
    )
    quarantine = Quarantine(layout=layout, contents=contents, threads=threads, now=database.now)
    damaged = DamagedContent(contents, partials, quarantine)
    blobs = BlobStore(layout=layout, contents=contents, partials=partials, damaged=damaged, threads=threads)
    manifests = ManifestStore(layout=layout, contents=contents, index=index, damaged=damaged, threads=threads)
    eviction = EvictionStore(
        layout=layout,
        database=database,
        contents=contents,
        index=index,
        blobs=blobs,
        partials=partials,
        threads=threads,
    )
    browser = StoreBrowser(
        layout=layout,
        database=database,
        contents=contents,
        index=index,
        blobs=blobs,
        partials=partials,
        eviction=eviction,
        threads=threads,
        wall_clock=wall_clock,
    )
    audit = ContentAudit(
        layout=layout,
        database=database,
        contents=contents,
        damaged=damaged,
        threads=threads,
    )
    files = HostedFiles(layout=layout, contents=contents, threads=threads, has_room=has_room)
    hosted = HostedIndex(
        database=database,
        contents=contents,
        files=files,
        manifests=manifests,
        wall_clock=wall_clock,
    )
    context = UploadContext(layout=layout, contents=contents, blobs=blobs, hosted=hosted, files=files)
    uploads = Uploads(context=context, threads=threads, now=database.now, token=token)
    hosted_gc = HostedGCStore(
        database=database,
        contents=contents,
        hosted=hosted,
        uploads=uploads,
        eviction=eviction,
        browser=browser,
        files=files,
        quarantine=quarantine,
    )
    snapshots = SnapshotSchedule(
        journal=opened.journal,
        index=layout.index,
        folder=layout.hosted_root,
        threads=threads,
        clock=clock,
        database=database,
    )
    reconciliation = Reconciliation(
        layout=layout,
        contents=contents,
        hosted=hosted,
        files=files,
        quarantine=quarantine,
        threads=threads,
    )
    return Store(
        blobs=blobs,
        manifests=manifests,
        index=index,
        uploads=uploads,
        hosted=hosted,
        eviction=eviction,
        hosted_gc=hosted_gc,
        browser=browser,
        audit=audit,
        database=database,
        contents=contents,
        partials=partials,
        spare_files=spare_files,
        quarantine=quarantine,
        snapshots=snapshots,
        journal=opened.journal,
        reconciliation=_start(reconciliation, clock),
        lock=lock,
    )


def _enter(layout: Layout) -> StoreLock:
    folders = (
        layout.root,
        layout.partials,
        layout.mirrored.scratch,
        layout.hosted_root,
        layout.uploads,
        layout.quarantine,
        layout.hosted.scratch,
    )
    for folder in folders:
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    lock = StoreLock.acquire(layout)
    _take_over_uploads(layout.root / "uploads", layout.uploads)
    return lock


def _take_over_uploads(earlier: Path, uploads: Path) -> None:
    """Move the uploads that an earlier version left; delete them where that would mean to copy them.

    A client starts again an upload that is unknown.
    """
    if not earlier.is_dir():
        return
    for path in list(earlier.iterdir()):
        try:
            path.rename(uploads / path.name)
        except OSError:
            path.unlink(missing_ok=True)
    earlier.rmdir()


def _start(reconciliation: Reconciliation, clock: IReactorTime) -> ReconciliationTask:
    """Run it one slice per iteration of the reactor, between the daemon's own work."""
    cooperator = Cooperator(lambda: lambda: True, lambda tick: clock.callLater(0, tick))
    task = cooperator.cooperate(reconciliation.slices())
    task.whenDone().addErrback(_log_failure)
    return task


def _log_failure(failure: Failure) -> None:
    log = Logger()
    if failure.check(OSError):
        log.error("index could not be reconciled with the files: {error}", error=failure.getErrorMessage())
    elif not failure.check(TaskStopped):
        log.failure("index could not be reconciled with the files", failure)
