"""Runtime: state that survives a configuration reload; a Generation of use cases is built on it."""

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import DeferredLock
from twisted.internet.task import deferLater
from twisted.python.threadpool import ThreadPool

from mirrord.access.state import AccessState
from mirrord.config.config import Config, UpstreamConfig
from mirrord.config.folders import state_folder
from mirrord.daemon.listeners import Listener, open_admin_listeners, open_listeners
from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import UNLIMITED_INODES, FreeSpace, GCLimits
from mirrord.gc.retention import RetentionRule, RetentionRules
from mirrord.http.certificates import Certificates
from mirrord.http.head_budget import HeadBudget
from mirrord.http.page_cache import PageCache
from mirrord.last_clients import LastClients
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.blobs import BlobDownloads
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.confirmation import LinkConfirmation
from mirrord.mirrored.lists import ReferrersKey, ReferrersList
from mirrord.mirrored.reference_confirmation import ReferenceConfirmation
from mirrord.mirrored.size_hints import SizeHints
from mirrord.observe.access_log import AccessLog
from mirrord.observe.build import version
from mirrord.observe.disk_errors import DiskErrorLog
from mirrord.observe.logs import Logs
from mirrord.observe.metrics import CertificateExpiry, Metrics
from mirrord.observe.periodic import HeapTrimmer, ReactorLatency
from mirrord.observe.systemd import Heartbeat, Notifier, watchdog_seconds
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.names import HOSTED, Reference, RepositoryKey
from mirrord.store.disk import WriteProbe
from mirrord.store.layout import Layout
from mirrord.store.store import Store, open_store
from mirrord.store.threads import DaemonThreadPool, DiskThreads, PoolThreads
from mirrord.upstream.client import UpstreamClient

_PAGE_THREADS = 4
_PASSWORD_THREADS = 2
_MAX_NEGATIVE_ENTRIES = 4096
_MAX_CORRUPT_ENTRIES = 1024
_MAX_TAGS = 50_000
_MAX_REFERRER_BYTES = 2 * 1024 * 1024


BackgroundTask = Collector | WriteProbe | Heartbeat | AccessLog | ReactorLatency | HeapTrimmer | Certificates
"""A task that runs beside the listeners, from `start` to `stop`."""


@attrs.frozen(eq=False, kw_only=True)
class Caches:
    """Recent responses of upstreams, in memory and bounded."""

    absences: AgedCache[tuple[RepositoryKey, Reference], ManifestUnknown | NameUnknown]
    tags: AgedCache[RepositoryKey, tuple[str, ...]]
    referrers: AgedCache[ReferrersKey, ReferrersList]

    @classmethod
    def empty(cls) -> "Caches":
        """Return empty caches."""
        return cls(
            absences=AgedCache(time.monotonic, _MAX_NEGATIVE_ENTRIES),
            tags=AgedCache(time.monotonic, _MAX_TAGS, len),
            referrers=AgedCache(time.monotonic, _MAX_REFERRER_BYTES, lambda referrers: len(referrers[0])),
        )


@attrs.frozen(eq=False, kw_only=True)
class Runtime:
    """State that survives a configuration reload: ports, threads, the store, downloads, clients and caches.

    `upstreams` has a client for every upstream that was configured since the start. A reload keeps those of
    unchanged upstreams, with their tokens, connections and circuits; that of a removed upstream stays for the
    downloads that still read from it. `command_socket` is the path of the Unix socket that accepts commands.
    `verification_lock` admits one verification at a time.
    """

    reactor: Any
    environment: Mapping[str, str]
    logs: Logs
    notifier: Notifier
    metrics: Metrics
    access_log: AccessLog
    pages: PageCache
    threads: DiskThreads
    pools: tuple[ThreadPool, ...]
    store: Store
    probe: WriteProbe
    collector: Collector
    cache_writer: CacheWriter
    confirmation: LinkConfirmation
    hints: SizeHints
    downloads: BlobDownloads
    references: ReferenceConfirmation
    upstreams: dict[str, UpstreamClient]
    caches: Caches
    last_clients: LastClients
    access: AccessState
    listeners: tuple[Listener, ...]
    command_socket: Path
    admin: tuple[Listener, ...]
    background: tuple[BackgroundTask, ...]
    verification_lock: DeferredLock = attrs.field(factory=DeferredLock)

    @classmethod
    def open(cls, config: Config, *, reactor: Any, environment: Mapping[str, str], logs: Logs) -> "Runtime":
        """Open the store and read the TLS files; bind and start nothing yet.

        Raises:
            OSError: The store cannot be opened, or a TLS file cannot be read; the message names the file.
        """
        page_pool = DaemonThreadPool(0, _PAGE_THREADS, "pages")
        password_pool = DaemonThreadPool(0, _PASSWORD_THREADS, "passwords")
        log_pool = DaemonThreadPool(0, 1, "access log")
        path, threads = Path(config.store.path), DiskThreads(reactor)
        metrics = Metrics((upstream.name for upstream in config.upstream), version())
        metrics.add_responses(HOSTED)
        store = open_store(
            path,
            config.hosted_folder,
            clock=reactor,
            threads=threads,
            monotonic=time.monotonic,
            wall_clock=time.time,
            has_room=lambda folder, size: _free(folder).bytes - size >= collector.limits.min_free,
        )
        collector = Collector(
            store=store.eviction,
            limits=gc_limits(config),
            interval_seconds=config.gc.interval,
            clock=reactor,
            wall_clock=time.time,
            free=partial(_free, path),
            hosted_free=_free_elsewhere(config.hosted_folder, path),
            metrics=metrics,
            hosted=HostedSweeper(store.hosted_gc, reactor),
        )
        upstreams: dict[str, UpstreamClient] = {}
        cache_writer, hints = CacheWriter(store.manifests, collector, DiskErrorLog(reactor)), SizeHints()
        confirmation = LinkConfirmation(
            upstreams=upstreams,
            files=store.blobs,
            manifests=store.manifests,
            index=store.index,
            writer=cache_writer,
        )
        downloads = BlobDownloads(
            upstreams=upstreams,
            files=store.blobs,
            index=store.index,
            writer=cache_writer,
            confirmation=confirmation,
            hints=hints,
            clock=reactor,
            random=random.random,
            corrupt=AgedCache(time.monotonic, _MAX_CORRUPT_ENTRIES),
        )
        references = ReferenceConfirmation(
            upstreams=upstreams,
            blobs=downloads,
            confirmation=confirmation,
            manifests=store.manifests,
            index=store.index,
            clock=reactor,
        )
        access = AccessState(
            folder=state_folder(environment, path),
            run_in_thread=PoolThreads(reactor, password_pool).run,
            clock=time.monotonic,
            wall_clock=time.time,
            sleep=partial(deferLater, reactor),
        )
        access_log = AccessLog(reactor, PoolThreads(reactor, log_pool).run)
        probe = WriteProbe(Layout(path).probe, threads, reactor)
        notifier = Notifier.of(environment)
        heads = HeadBudget()
        listeners = open_listeners(config, reactor, access_log, heads)
        command_socket = config.admin.command_socket(environment, path)
        heartbeat = Heartbeat(
            notifier=notifier,
            clock=reactor,
            watchdog_seconds=watchdog_seconds(environment, os.getpid()),
            find_problem=lambda: probe.trouble,
            describe=partial(_summary, store, downloads),
        )
        runtime = cls(
            reactor=reactor,
            environment=environment,
            logs=logs,
            notifier=notifier,
            metrics=metrics,
            access_log=access_log,
            pages=PageCache(reactor, page_pool),
            threads=threads,
            pools=(*threads.pools, page_pool, password_pool, log_pool),
            store=store,
            probe=probe,
            collector=collector,
            cache_writer=cache_writer,
            confirmation=confirmation,
            hints=hints,
            downloads=downloads,
            references=references,
            upstreams=upstreams,
            caches=Caches.empty(),
            last_clients=LastClients(time.time),
            access=access,
            listeners=listeners,
            command_socket=command_socket,
            admin=open_admin_listeners(config, command_socket, reactor, heads),
            background=(
                collector,
                probe,
                heartbeat,
                access_log,
                ReactorLatency(reactor, time.monotonic, metrics.reactor_delayed),
                HeapTrimmer(reactor),
                *filter(None, (listener.certificates for listener in listeners)),
            ),
        )
        runtime._export_metrics()
        return runtime

    @property
    def certificates(self) -> tuple[Certificates, ...]:
        """The certificates of the listeners that speak TLS."""
        return tuple(filter(None, (listener.certificates for listener in self.listeners)))

    def clients(self, config: Config) -> dict[str, UpstreamClient]:
        """Return a client for each configured upstream; a new one only if its configuration has changed."""
        return {upstream.name: self._client(upstream) for upstream in config.upstream}

    def _client(self, config: UpstreamConfig) -> UpstreamClient:
        current = self.upstreams.get(config.name)
        # A CA file may have other content under the same name; only a new client reads it.
        if current is not None and current.config == config and config.ca is None:
            return current
        return UpstreamClient(
            config,
            reactor=self.reactor,
            metrics=self.metrics,
            random=random.Random(),
            environment=self.environment,
        )

    def use_clients(self, clients: Mapping[str, UpstreamClient]) -> None:
        """Put these clients into effect; those that they replace close when their downloads have ended."""
        for name, client in clients.items():
            current = self.upstreams.get(name)
            if current is client:
                continue
            if current is None:
                self._export_upstream_metrics(name)
            else:
                current.close()
            self.upstreams[name] = client

    def _export_metrics(self) -> None:
        """Connect the metrics to the objects that count."""
        mirrored, hosted, downloads = self.store.eviction, self.store.hosted_gc, self.downloads
        self.metrics.watch_store(
            lambda: mirrored.total_bytes, lambda: mirrored.total_entries, lambda: len(downloads.running)
        )
        stats = self.metrics.stats
        stats.hosted_bytes = lambda: hosted.total_bytes
        stats.hosted_entries = lambda: hosted.total_entries
        stats.quarantine_entries = lambda: self.store.quarantine.total_entries
        stats.uploads = lambda: self.store.uploads.total_entries
        stats.downloads_waiting = lambda: downloads.slots.waiting
        stats.downloads_parked = lambda: downloads.slots.parked
        stats.logins_failed = lambda: self.access.failed_logins
        stats.log_dropped = lambda: self.logs.dropped + self.access_log.dropped
        stats.certificates = self._expiries

    def _expiries(self) -> Iterable[CertificateExpiry]:
        for listener in self.listeners:
            if listener.certificates is not None:
                for name, at in listener.certificates.expiries.items():
                    yield CertificateExpiry(listener.endpoint, name, at)

    def _export_upstream_metrics(self, upstream: str) -> None:
        """Connect the metrics of an upstream to the client that it has at the time of a scrape."""

        def is_circuit_open() -> bool:
            status = self.upstreams[upstream].status()
            return status.manifests_wait_seconds > 0 or status.others_wait_seconds > 0

        self.metrics.add_upstream(upstream)
        self.metrics.watch_upstream(
            upstream, lambda: self.upstreams[upstream].status().quota.remaining, is_circuit_open
        )


def gc_limits(config: Config) -> GCLimits:
    """Return the limits of garbage collection that `config` sets."""
    rules = tuple(
        RetentionRule(
            repositories=rule.repositories,
            untagged_for=rule.untagged_for,
            newest=rule.newest,
            tags=rule.tags,
            older_than=rule.older_than,
            number=number,
        )
        for number, rule in enumerate(config.hosted.keep)
    )
    return GCLimits(
        max_size=config.store.max_size,
        min_free=config.store.min_free,
        unused_for_seconds=config.gc.unused_for,
        partials_seconds=config.gc.partials,
        retention=RetentionRules(config.hosted.grace, rules),
    )


def _summary(store: Store, downloads: BlobDownloads) -> str:
    """Return the line that `systemctl status` shows."""
    size, entries = store.eviction.total_bytes, store.eviction.total_entries
    running = len(downloads.running)
    return f"{running} downloads running, {size / 1e9:.1f} GB in {entries} blobs and manifests"


def _free_elsewhere(folder: Path, store: Path) -> Callable[[], FreeSpace] | None:
    """Return a function for what a folder's file system has left; None if it is that of the store."""
    return partial(_free, folder) if folder.stat().st_dev != store.stat().st_dev else None


def _free(path: Path) -> FreeSpace:
    """Return what a file system has left; some do not count inodes."""
    status = os.statvfs(path)
    inodes = status.f_favail if status.f_files else UNLIMITED_INODES
    return FreeSpace(status.f_bavail * status.f_frsize, inodes)
