"""Foundation: what lives on while configurations come and go, and the use cases that are put on it."""

import os
import random
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.task import deferLater
from twisted.python.threadpool import ThreadPool

from mirrord.access.authenticator import Authenticator
from mirrord.access.state import AccessState
from mirrord.api.hosted import Hosting
from mirrord.api.ports import UseCases
from mirrord.config.config import Config, ConfigError, UpstreamConfig
from mirrord.config.defaults import state_folder
from mirrord.config.hosted import HostedConfig
from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import GCLimits as GcLimits
from mirrord.gc.retention import RetentionRule, RetentionRules
from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.reading import HostedReader
from mirrord.hosted.referrers import HostedReferrers
from mirrord.hosted.repositories import HostedNames
from mirrord.hosted.uploads import Uploader
from mirrord.http.page_cache import PageCache
from mirrord.last_clients import LastClients
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.blobs import BlobDownloads
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.freshness import FreshnessPolicy
from mirrord.mirrored.holding import HeldElsewhere
from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.manifest_resolver import ManifestResolver
from mirrord.mirrored.manifests import MirroredManifests
from mirrord.mirrored.referrers import MirroredReferrers
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.mirrored.tags import MirroredCatalog, MirroredTags
from mirrord.observe.access_log import AccessLog
from mirrord.observe.build import version
from mirrord.observe.metrics import Metrics
from mirrord.oci.names import HOSTED
from mirrord.routing import Router, UpstreamRoute
from mirrord.store.layout import Layout
from mirrord.store.probe import WriteProbe
from mirrord.store.store import Store, open_store
from mirrord.store.threads import PoolThreads
from mirrord.upstream.client import UpstreamClient

_STORE_THREADS = 4
_PAGE_THREADS = 4
_PASSWORD_THREADS = 2
_MAX_NEGATIVE_ENTRIES = 4096
_MAX_CORRUPT_ENTRIES = 1024
_MAX_TAGS = 50_000
_MAX_REFERRER_BYTES = 2 * 1024 * 1024


@attrs.frozen(eq=False)
class Caches:
    """What was answered a moment ago, and to whom."""

    absences: AgedCache[Any, Any]
    tags: AgedCache[Any, Any]
    referrers: AgedCache[Any, Any]
    visitors: LastClients

    @classmethod
    def empty(cls) -> "Caches":
        """Nothing yet."""
        return cls(
            AgedCache(time.monotonic, _MAX_NEGATIVE_ENTRIES),
            AgedCache(time.monotonic, _MAX_TAGS, len),
            AgedCache(time.monotonic, _MAX_REFERRER_BYTES, lambda listed: len(listed[0])),
            LastClients(time.time),
        )


@attrs.frozen(eq=False)
class Runtime:
    """What lives on while configurations come and go: the disk, what runs, and what is remembered.

    Upstreams that a reload does not change keep their tokens, connections and circuits; one that it
    removes keeps its client, for the downloads that it still feeds.
    """

    reactor: Any
    environment: Mapping[str, str]
    metrics: Metrics
    access_log: AccessLog
    pages: PageCache
    pools: tuple[ThreadPool, ...]
    store: Store
    probe: WriteProbe
    collector: Collector
    puller: BlobDownloads
    upstreams: dict[str, UpstreamClient]
    memories: Caches
    admission: AccessState

    @classmethod
    def lay(cls, config: Config, reactor: Any, environment: Mapping[str, str]) -> "Runtime":
        """Open the store and put on it what every configuration stands on."""
        metrics = Metrics.for_upstreams((upstream.name for upstream in config.upstream), version())
        metrics.add_source(HOSTED)
        disk_pool = ThreadPool(0, _STORE_THREADS, "store")
        page_pool = ThreadPool(0, _PAGE_THREADS, "pages")
        password_pool = ThreadPool(0, _PASSWORD_THREADS, "passwords")
        path, threads = Path(config.store.path), PoolThreads(reactor, disk_pool)
        store = open_store(
            path, clock=reactor, threads=threads, monotonic=time.monotonic, wall_clock=time.time
        )
        shelf = store.eviction
        collector = Collector(
            shelf,
            limits_of(config),
            config.gc.interval,
            reactor,
            time.time,
            lambda: _free_bytes(path),
            metrics,
            HostedSweeper(store.hosted_gc, reactor),
        )
        upstreams: dict[str, UpstreamClient] = {}
        puller = BlobDownloads(
            upstreams,
            store.blobs,
            store.index,
            CacheWriter(store.manifests, collector),
            reactor,
            random.random,
            AgedCache(time.monotonic, _MAX_CORRUPT_ENTRIES),
        )
        metrics.watch(lambda: shelf.total_bytes, lambda: shelf.total_entries, lambda: len(puller.running))
        return cls(
            reactor,
            environment,
            metrics,
            AccessLog(reactor, threads.run),
            PageCache(reactor, page_pool),
            (disk_pool, page_pool, password_pool),
            store,
            WriteProbe(Layout(path).probe, threads, reactor),
            collector,
            puller,
            upstreams,
            Caches.empty(),
            AccessState(
                folder=state_folder(environment, path),
                run_in_thread=PoolThreads(reactor, password_pool).run,
                clock=time.monotonic,
                wall_clock=time.time,
                sleep=partial(deferLater, reactor),
            ),
        )

    def use_cases(self, config: Config) -> UseCases:
        """What clients can ask of the mirror that `config` describes."""
        self._connect(config)
        store, upstreams, memories = self.store, self.upstreams, self.memories
        sources = _sources(config)
        keeper = CacheWriter(store.manifests, self.collector)
        negative_ttl, stale_seconds = config.freshness.negative_ttl, config.freshness.stale_if_error
        names = ManifestResolver(
            upstreams, store.manifests, store.index, keeper, time.time, negative_ttl, memories.absences
        )
        freshness = {one.name: _freshness(config, one) for one in config.upstream}
        stale = StaleIfError(upstreams, self.reactor)
        return UseCases(
            sources,
            MirroredManifests(store.manifests, store.index, names, freshness, stale, time.time),
            self.puller,
            MirroredTags(upstreams, ListCache(stale, stale_seconds, memories.tags)),
            MirroredReferrers(upstreams, ListCache(stale, stale_seconds, memories.referrers)),
            MirroredCatalog(store.index, sources),
            memories.visitors,
            self._hosting(config.hosted),
            self.reactor,
        )

    def _hosting(self, config: HostedConfig) -> Hosting:
        """What clients can ask of hosted repositories."""
        store, room = self.store, self.collector
        return Hosting(
            HostedReader(store.hosted, self.reactor),
            HostedReferrers(store.hosted, store.manifests),
            Uploader(store.uploads, room, config.max_upload_size),
            Mounter(store.hosted, HeldElsewhere(store.index, store.blobs)),
            ManifestPusher(store.hosted, room, time.time, self.reactor),
            HostedDeletion(store.hosted, config.delete),
            store.blobs,
            store.manifests,
        )

    def gate(self, config: Config) -> Authenticator:
        """Who may do what, as `config` says.

        Raises:
            ConfigError: The users cannot be read, or the key of tokens neither read nor written.
        """
        try:
            return self.admission.authenticator(config.access, _sources(config).resolve_scope)
        except OSError as error:
            raise ConfigError([f"access: {error}"]) from None

    def _connect(self, config: Config) -> None:
        """Have a client for every upstream; a new one where there is none, or it is configured otherwise."""
        for one in config.upstream:
            known = self.upstreams.get(one.name)
            # A file of authorities may have changed under its name, and is read with the client alone.
            if known is not None and known.config == one and one.ca is None:
                continue
            if known is None:
                self._count(one.name)
            else:
                known.close()
            self.upstreams[one.name] = UpstreamClient(
                one,
                reactor=self.reactor,
                metrics=self.metrics,
                random=random.Random(),
                environment=self.environment,
            )

    def _count(self, upstream: str) -> None:
        """Have the metrics of an upstream ask whatever client it has when somebody looks."""

        def is_turned_away() -> bool:
            status = self.upstreams[upstream].status()
            return status.manifests_wait_seconds > 0 or status.others_wait_seconds > 0

        self.metrics.add_upstream(upstream)
        self.metrics.watch_upstream(
            upstream, lambda: self.upstreams[upstream].status().quota.remaining, is_turned_away
        )


def limits_of(config: Config) -> GcLimits:
    """What the collector keeps to."""
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
    return GcLimits(
        config.store.max_size,
        config.store.min_free,
        config.gc.unused_for,
        config.gc.partials,
        RetentionRules(config.hosted.grace, rules),
    )


def _sources(config: Config) -> Router:
    hosted = HostedNames(config.hosted.repositories if config.hosted.enabled else ())
    origins = (UpstreamRoute(one.name, one.prefix, one.allow, one.deny) for one in config.upstream)
    return Router.of(origins, hosted.has)


def _freshness(config: Config, upstream: UpstreamConfig) -> FreshnessPolicy:
    ttl = config.freshness.tag_ttl if upstream.tag_ttl is None else upstream.tag_ttl
    return FreshnessPolicy(ttl, config.freshness.stale_if_error)


def _free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
