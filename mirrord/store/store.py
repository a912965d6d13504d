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
from mirrord.store import recovery
from mirrord.store.audit import Audit
from mirrord.store.blobs import BlobStore
from mirrord.store.browser import StoreBrowser
from mirrord.store.cache import BodyCache
from mirrord.store.contents import Contents
from mirrord.store.copies import Copies
from mirrord.store.database import Database
from mirrord.store.disk import StoreLock, Threads
from mirrord.store.eviction import EvictionStore
from mirrord.store.hosted_gc import HostedGCStore
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.index import Index
from mirrord.store.layout import FOLDER_MODE, Layout
from mirrord.store.manifests import ManifestStore
from mirrord.store.partials import PartialFile
from mirrord.store.unfinished import PartialStore
from mirrord.store.uploads import Uploads

CACHE_BYTES = 4 * 1024 * 1024

Reconciling: TypeAlias = CooperativeTask[Iterator[Deferred[None] | None]]


@attrs.define(eq=False)
class Store:
    """All that is kept.

    `blobs`, `manifests` and `index` are what pulling needs, `uploads` and `hosted` what pushing needs,
    `eviction` and `hosted_gc` what gc needs, `browser` and `audit` are for the operator.
    """

    blobs: BlobStore
    manifests: ManifestStore
    index: Index
    uploads: Uploads
    hosted: HostedIndex
    eviction: EvictionStore
    hosted_gc: HostedGCStore
    browser: StoreBrowser
    audit: Audit
    _database: Database
    _partials: PartialStore
    _copies: Copies
    _reconciliation: Reconciling
    _lock: StoreLock

    @property
    def trouble(self) -> str | None:
        """Why what is pulled now may be forgotten: the index cannot be written; None where all is well."""
        return self._database.trouble

    async def reconciled(self) -> None:
        """Wait until index and files agree, or could not be compared: a while after a start, else at once."""
        with contextlib.suppress(TaskStopped, OSError):
            await self._reconciliation.whenDone()

    async def close(self) -> None:
        """Park what is being written, put all on the disk, and let another daemon have the store."""
        with contextlib.suppress(TaskFinished):
            self._reconciliation.stop()
        self._partials.park_all()
        self.uploads.release_all()
        await self._database.close()
        await self._copies.close()
        self._lock.release()


def open_store(
    root: Path,
    *,
    clock: IReactorTime,
    threads: Threads,
    monotonic: Callable[[], float],
    wall_clock: Callable[[], float],
    token: Callable[[], str] = lambda: token_hex(16),
    cache_bytes: int = CACHE_BYTES,
) -> Store:
    """Open the store in `root`, made if it is not there; how much it holds makes no difference.

    `monotonic` gives seconds that no one sets (service time), `wall_clock` those that people are shown,
    `token` the unguessable part of the name of an upload.

    Raises:
        StoreInUse: Another daemon has it.
        OSError: The disk failed.
    """
    layout = Layout(root)
    lock = _enter(layout)
    try:
        recovery.empty_scratch(layout)
        opened = recovery.open_index(layout, wall_clock())
    except BaseException:
        lock.release()
        raise
    database = Database(
        reader=opened.reader,
        writer=opened.writer,
        condemned=layout.condemned,
        threads=threads,
        clock=clock,
        monotonic=monotonic,
        service_seconds=opened.service_seconds,
    )
    contents, index, cache = Contents(database), Index(database), BodyCache(cache_bytes)

    def committed(partial: PartialFile) -> None:
        contents.add(ContentKind.BLOB, partial.digest, partial.offset)

    partials = PartialStore(layout, threads, database.now, committed)
    blobs = BlobStore(layout, contents, partials, cache)
    manifests = ManifestStore(layout, contents, index, partials, cache, threads)
    eviction = EvictionStore(layout, database, contents, index, blobs, partials, cache, threads)
    copies = Copies(layout, threads, clock, wall_clock)
    hosted = HostedIndex(database, contents, blobs, manifests, wall_clock, copies.changed)
    uploads = Uploads(layout, blobs, hosted, threads, database.now, token)
    reconciliation = _reconcile(recovery.Reconciliation(layout, contents, hosted, threads), clock)
    browser = StoreBrowser(layout, database, contents, index, blobs, partials, eviction, threads, wall_clock)
    hosted_gc = HostedGCStore(database, contents, hosted, uploads, eviction, browser, copies.changed)
    audit = Audit(layout, database, contents, partials, cache, threads)
    return Store(
        blobs,
        manifests,
        index,
        uploads,
        hosted,
        eviction,
        hosted_gc,
        browser,
        audit,
        database,
        partials,
        copies,
        reconciliation,
        lock,
    )


def _enter(layout: Layout) -> StoreLock:
    for folder in (layout.root, layout.partials, layout.uploads, layout.scratch):
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    return StoreLock.acquire(layout)


def _reconcile(reconciliation: recovery.Reconciliation, clock: IReactorTime) -> Reconciling:
    """Do it one slice a turn: the daemon's own work comes between any two."""
    cooperator = Cooperator(lambda: lambda: True, lambda tick: clock.callLater(0, tick))
    task = cooperator.cooperate(reconciliation.slices())
    task.whenDone().addErrback(_log_unreconciled)
    return task


def _log_unreconciled(failure: Failure) -> None:
    if not failure.check(TaskStopped):
        Logger().failure("the index could not be compared with the files", failure)
