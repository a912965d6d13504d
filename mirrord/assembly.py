"""Assembly: the one place where objects are joined.

Everything below is made of ports; here each is handed the real thing. What a configuration decides
is written in the use cases and upstreams, which can be made anew while what they stand on goes on.
"""

import os
import random
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from twisted.python.threadpool import ThreadPool

from mirrord.admin.root import AdminRoot
from mirrord.admin.status import Holdings, Status
from mirrord.config import Config, ListenConfig, UpstreamConfig
from mirrord.gc.collector import Collector
from mirrord.gc.plan import Limits as GcLimits
from mirrord.listen.pages import Pages
from mirrord.listen.site import ConnectionLimits, MirrorSite
from mirrord.listen.tls import tls_options
from mirrord.observe.health import Check, Health
from mirrord.observe.metrics import Metrics
from mirrord.pull.blobs import BlobPuller
from mirrord.pull.freshness import Freshness
from mirrord.pull.keeping import Keeper
from mirrord.pull.lists import Lists
from mirrord.pull.manifests import ManifestPuller
from mirrord.pull.naming import Names
from mirrord.pull.referrers import ReferrerLister
from mirrord.pull.remembered import Remembered
from mirrord.pull.sources import Origin, Sources
from mirrord.pull.stale import StaleIfError
from mirrord.pull.tags import Catalog, TagLister
from mirrord.service import Listener, Parts
from mirrord.store.store import Store, open_store
from mirrord.store.threads import PoolThreads
from mirrord.upstream.client import UpstreamClient
from mirrord.web.ports import UseCases
from mirrord.web.root import RegistryRoot

_STORE_THREADS = 4
_PAGE_THREADS = 4
_REMEMBERED_ABSENCES = 4096
_REMEMBERED_CORRUPTIONS = 1024
_REMEMBERED_TAGS = 50_000
_REMEMBERED_REFERRER_BYTES = 2 * 1024 * 1024


def assemble(config: Config, reactor: Any, *, environment: Mapping[str, str]) -> Parts:
    """All parts of a mirror, joined and not yet started.

    Raises:
        OSError: The store cannot be opened, or a file of TLS not be read; the message names the file.
    """
    metrics = Metrics.for_upstreams(upstream.name for upstream in config.upstream)
    disk_pool = ThreadPool(0, _STORE_THREADS, "store")
    page_pool = ThreadPool(0, _PAGE_THREADS, "pages")
    threads, pages = PoolThreads(reactor, disk_pool), Pages(reactor, page_pool)
    store = open_store(
        Path(config.store.path),
        clock=reactor,
        threads=threads,
        monotonic=time.monotonic,
        wall_clock=time.time,
    )
    collector = _collector(config, reactor, store, metrics)
    upstreams = {
        upstream.name: UpstreamClient(
            upstream, reactor=reactor, metrics=metrics, random=random.Random(), environment=environment
        )
        for upstream in config.upstream
    }
    use_cases, puller = _use_cases(config, reactor, store, collector, upstreams)
    shelf = store.shelf
    metrics.watch(lambda: shelf.total_bytes, lambda: shelf.total_entries, lambda: len(puller.running))
    status = _status(config, store, puller, upstreams, collector)
    admin = AdminRoot(metrics.registry, Health((Check("store", lambda: store.trouble),)), status)
    return Parts(
        _listeners(config, reactor, lambda name: RegistryRoot(use_cases, name, metrics, pages)),
        Listener(config.admin.endpoint, MirrorSite(reactor, admin.respond)),
        (disk_pool, page_pool),
        pages,
        collector,
        puller,
        store,
        tuple(upstreams.values()),
    )


def _collector(config: Config, reactor: Any, store: Store, metrics: Metrics) -> Collector:
    """What keeps the store within its bounds."""
    limits = GcLimits(config.store.max_size, config.store.min_free, config.gc.unused_for, config.gc.partials)
    return Collector(
        store.shelf,
        limits,
        config.gc.interval,
        reactor,
        time.time,
        lambda: _free_bytes(config.store.path),
        metrics,
    )


def _listeners(config: Config, reactor: Any, root_of: Callable[[str], RegistryRoot]) -> tuple[Listener, ...]:
    """The ports of the mirror; `root_of` gives what answers where an upstream is the listener's own."""

    def listener(listen: ListenConfig) -> Listener:
        limits = ConnectionLimits(stall_seconds=listen.stall_timeout)
        site = MirrorSite(reactor, root_of(listen.upstream).respond, limits)
        tls = tls_options(listen.certificate, listen.key) if listen.certificate and listen.key else None
        return Listener(listen.endpoint, site, tls)

    return tuple(map(listener, config.listen))


def _status(
    config: Config,
    store: Store,
    puller: BlobPuller,
    upstreams: Mapping[str, UpstreamClient],
    collector: Collector,
) -> Status:
    """What an operator sees at a glance."""
    shelf = store.shelf
    return Status(
        _version(),
        time.monotonic,
        lambda: Holdings(shelf.total_bytes, shelf.total_entries, config.store.max_size),
        lambda: puller.running,
        lambda: [upstream.status() for upstream in upstreams.values()],
        lambda: collector.last_sweep,
    )


def _use_cases(
    config: Config, reactor: Any, store: Store, room: Collector, upstreams: Mapping[str, UpstreamClient]
) -> tuple[UseCases, BlobPuller]:
    """What clients can ask of a mirror, over this store and these upstreams."""
    keeper = Keeper(store.manifests, room)
    sources = Sources.of(Origin(one.name, one.prefix, one.allow, one.deny) for one in config.upstream)
    names = Names(
        upstreams,
        store.manifests,
        store.index,
        keeper,
        time.time,
        config.freshness.negative_ttl,
        Remembered(time.monotonic, _REMEMBERED_ABSENCES),
    )
    freshness = {one.name: _freshness(config, one) for one in config.upstream}
    stale_if_error = StaleIfError(upstreams, reactor)
    manifests = ManifestPuller(store.manifests, store.index, names, freshness, stale_if_error, time.time)
    blobs = BlobPuller(
        upstreams,
        store.blobs,
        store.index,
        keeper,
        reactor,
        random.random,
        Remembered(time.monotonic, _REMEMBERED_CORRUPTIONS),
    )
    stale_seconds = config.freshness.stale_if_error
    tags = TagLister(
        upstreams, Lists(stale_if_error, stale_seconds, Remembered(time.monotonic, _REMEMBERED_TAGS, len))
    )
    referrers = ReferrerLister(
        upstreams,
        Lists(
            stale_if_error,
            stale_seconds,
            Remembered(time.monotonic, _REMEMBERED_REFERRER_BYTES, lambda listed: len(listed[0])),
        ),
    )
    return UseCases(sources, manifests, blobs, tags, referrers, Catalog(store.index, sources)), blobs


def _freshness(config: Config, upstream: UpstreamConfig) -> Freshness:
    ttl = config.freshness.tag_ttl if upstream.tag_ttl is None else upstream.tag_ttl
    return Freshness(ttl, config.freshness.stale_if_error)


def _free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _version() -> str:
    try:
        return version("mirrord")
    except PackageNotFoundError:
        return "unknown"
