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

from mirrord.access.admission import Admission
from mirrord.access.gate import Gate
from mirrord.config import Config, ConfigError, UpstreamConfig
from mirrord.defaults import state_folder
from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.keep import KeepRule, Retention
from mirrord.gc.plan import Limits as GcLimits
from mirrord.hosting import HostedConfig
from mirrord.listen.pages import Pages
from mirrord.observe.access import AccessLog
from mirrord.observe.build import version
from mirrord.observe.metrics import Metrics
from mirrord.oci.hosted import HOSTED
from mirrord.operate.visitors import Visitors
from mirrord.pull.blobs import BlobPuller
from mirrord.pull.freshness import Freshness
from mirrord.pull.holding import HeldElsewhere
from mirrord.pull.keeping import Keeper
from mirrord.pull.lists import Lists
from mirrord.pull.manifests import ManifestPuller
from mirrord.pull.naming import Names
from mirrord.pull.referrers import ReferrerLister
from mirrord.pull.remembered import Remembered
from mirrord.pull.sources import Origin, Sources
from mirrord.pull.stale import StaleIfError
from mirrord.pull.tags import Catalog, TagLister
from mirrord.push.deletion import Deleter
from mirrord.push.manifests import ManifestPusher
from mirrord.push.mounts import Mounter
from mirrord.push.ports import Pause
from mirrord.push.reading import HostedReader
from mirrord.push.referrers import HostedReferrers
from mirrord.push.repositories import HostedNames
from mirrord.push.uploads import Uploader
from mirrord.store.layout import Layout
from mirrord.store.probe import WriteProbe
from mirrord.store.store import Store, open_store
from mirrord.store.threads import PoolThreads
from mirrord.upstream.client import UpstreamClient
from mirrord.web.hosted import Hosting
from mirrord.web.ports import UseCases

_STORE_THREADS = 4
_PAGE_THREADS = 4
_PASSWORD_THREADS = 2
_REMEMBERED_ABSENCES = 4096
_REMEMBERED_CORRUPTIONS = 1024
_REMEMBERED_TAGS = 50_000
_REMEMBERED_REFERRER_BYTES = 2 * 1024 * 1024


@attrs.frozen(eq=False)
class Memories:
    """What was answered a moment ago, and to whom."""

    absences: Remembered[Any, Any]
    tags: Remembered[Any, Any]
    referrers: Remembered[Any, Any]
    visitors: Visitors

    @classmethod
    def empty(cls) -> "Memories":
        """Nothing yet."""
        return cls(
            Remembered(time.monotonic, _REMEMBERED_ABSENCES),
            Remembered(time.monotonic, _REMEMBERED_TAGS, len),
            Remembered(time.monotonic, _REMEMBERED_REFERRER_BYTES, lambda listed: len(listed[0])),
            Visitors(time.time),
        )


@attrs.frozen(eq=False)
class Foundation:
    """What lives on while configurations come and go: the disk, what runs, and what is remembered.

    Upstreams that a reload does not change keep their tokens, connections and circuits; one that it
    removes keeps its client, for the downloads that it still feeds.
    """

    reactor: Any
    environment: Mapping[str, str]
    metrics: Metrics
    access_log: AccessLog
    pages: Pages
    pools: tuple[ThreadPool, ...]
    store: Store
    probe: WriteProbe
    collector: Collector
    puller: BlobPuller
    upstreams: dict[str, UpstreamClient]
    memories: Memories
    admission: Admission

    @classmethod
    def lay(cls, config: Config, reactor: Any, environment: Mapping[str, str]) -> "Foundation":
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
        shelf = store.shelf
        collector = Collector(
            shelf,
            limits_of(config),
            config.gc.interval,
            reactor,
            time.time,
            lambda: _free_bytes(path),
            metrics,
            HostedSweeper(store.hosted_shelf, reactor),
        )
        upstreams: dict[str, UpstreamClient] = {}
        puller = BlobPuller(
            upstreams,
            store.blobs,
            store.index,
            Keeper(store.manifests, collector),
            reactor,
            random.random,
            Remembered(time.monotonic, _REMEMBERED_CORRUPTIONS),
        )
        metrics.watch(lambda: shelf.total_bytes, lambda: shelf.total_entries, lambda: len(puller.running))
        return cls(
            reactor,
            environment,
            metrics,
            AccessLog(reactor, threads.run),
            Pages(reactor, page_pool),
            (disk_pool, page_pool, password_pool),
            store,
            WriteProbe(Layout(path).probe, threads, reactor),
            collector,
            puller,
            upstreams,
            Memories.empty(),
            Admission(
                state_folder(environment, path),
                PoolThreads(reactor, password_pool),
                time.monotonic,
                time.time,
                partial(deferLater, reactor),
            ),
        )

    def use_cases(self, config: Config) -> UseCases:
        """What clients can ask of the mirror that `config` describes."""
        self._connect(config)
        store, upstreams, memories = self.store, self.upstreams, self.memories
        sources, pause = _sources(config), partial(deferLater, self.reactor, 0)
        keeper = Keeper(store.manifests, self.collector)
        negative_ttl, stale_seconds = config.freshness.negative_ttl, config.freshness.stale_if_error
        names = Names(
            upstreams, store.manifests, store.index, keeper, time.time, negative_ttl, memories.absences
        )
        freshness = {one.name: _freshness(config, one) for one in config.upstream}
        stale = StaleIfError(upstreams, self.reactor)
        return UseCases(
            sources,
            ManifestPuller(store.manifests, store.index, names, freshness, stale, time.time),
            self.puller,
            TagLister(upstreams, Lists(stale, stale_seconds, memories.tags)),
            ReferrerLister(upstreams, Lists(stale, stale_seconds, memories.referrers)),
            Catalog(store.index, sources),
            memories.visitors,
            self._hosting(config.hosted, pause),
            pause,
        )

    def _hosting(self, config: HostedConfig, pause: Pause) -> Hosting:
        """What clients can ask of hosted repositories."""
        store, room = self.store, self.collector
        return Hosting(
            HostedReader(store.hosted, pause),
            HostedReferrers(store.hosted, store.manifests),
            Uploader(store.uploads, room, config.max_upload_size),
            Mounter(store.hosted, HeldElsewhere(store.index, store.blobs)),
            ManifestPusher(store.hosted, room, time.time, pause),
            Deleter(store.hosted, config.delete),
            store.blobs,
            store.manifests,
        )

    def gate(self, config: Config) -> Gate:
        """Who may do what, as `config` says.

        Raises:
            ConfigError: The users cannot be read, or the key of tokens neither read nor written.
        """
        try:
            return self.admission.gate(config.access, _sources(config))
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
        KeepRule(rule.repositories, rule.untagged_for, rule.newest, rule.tags, rule.older_than, number)
        for number, rule in enumerate(config.hosted.keep)
    )
    return GcLimits(
        config.store.max_size,
        config.store.min_free,
        config.gc.unused_for,
        config.gc.partials,
        Retention(config.hosted.grace, rules),
    )


def _sources(config: Config) -> Sources:
    hosted = HostedNames(config.hosted.repositories if config.hosted.enabled else ())
    origins = (Origin(one.name, one.prefix, one.allow, one.deny) for one in config.upstream)
    return Sources.of(origins, hosted.has)


def _freshness(config: Config, upstream: UpstreamConfig) -> Freshness:
    ttl = config.freshness.tag_ttl if upstream.tag_ttl is None else upstream.tag_ttl
    return Freshness(ttl, config.freshness.stale_if_error)


def _free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
