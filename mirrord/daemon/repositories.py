"""Repositories: the use cases of mirrored and hosted repositories, composed for one configuration."""

import time
from collections.abc import Mapping

from mirrord.api.hosted import Hosting
from mirrord.api.ports import UseCases
from mirrord.config.config import Config
from mirrord.config.hosted import HostedConfig
from mirrord.daemon.runtime import Runtime
from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.reading import HostedReader
from mirrord.hosted.referrers import HostedReferrers
from mirrord.hosted.uploads import Uploader
from mirrord.mirrored.freshness import FreshnessPolicy
from mirrord.mirrored.holding import HeldElsewhere
from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.manifest_resolver import ManifestResolver
from mirrord.mirrored.manifests import MirroredManifests
from mirrord.mirrored.referrers import MirroredReferrers
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.mirrored.tags import MirroredCatalog, MirroredTags
from mirrord.routing import Router
from mirrord.upstream.client import UpstreamClient


def build_use_cases(
    runtime: Runtime, config: Config, router: Router, upstreams: Mapping[str, UpstreamClient]
) -> UseCases:
    """Compose what the API calls, for the repositories of `config`."""
    store, caches = runtime.store, runtime.caches
    freshness = {
        name: FreshnessPolicy(ttl, config.freshness.stale_if_error) for name, ttl in tag_ttls(config).items()
    }
    resolver = ManifestResolver(
        upstreams=upstreams,
        manifests=store.manifests,
        index=store.index,
        keeper=runtime.cache_writer,
        now=time.time,
        negative_ttl=config.freshness.negative_ttl,
        absent=caches.absences,
    )
    stale_if_error, stale_seconds = StaleIfError(upstreams, runtime.reactor), config.freshness.stale_if_error
    return UseCases(
        sources=router,
        manifests=MirroredManifests(
            manifests=store.manifests,
            index=store.index,
            names=resolver,
            freshness=freshness,
            stale_if_error=stale_if_error,
            now=time.time,
        ),
        blobs=runtime.downloads,
        tags=MirroredTags(upstreams, ListCache(stale_if_error, stale_seconds, caches.tags)),
        referrers=MirroredReferrers(upstreams, ListCache(stale_if_error, stale_seconds, caches.referrers)),
        catalog=MirroredCatalog(store.index, router),
        visitors=runtime.last_clients,
        hosting=_build_hosting(runtime, config.hosted),
        clock=runtime.reactor,
    )


def tag_ttls(config: Config) -> dict[str, float]:
    """Return for how many seconds the tags of each upstream are fresh."""
    default = config.freshness.tag_ttl
    return {one.name: default if one.tag_ttl is None else one.tag_ttl for one in config.upstream}


def _build_hosting(runtime: Runtime, config: HostedConfig) -> Hosting:
    store, collector = runtime.store, runtime.collector
    return Hosting(
        reader=HostedReader(store.hosted, runtime.reactor),
        referrers=HostedReferrers(store.hosted, store.manifests),
        uploader=Uploader(store.uploads, collector, config.max_upload_size),
        mounter=Mounter(store.hosted, HeldElsewhere(store.index, store.blobs)),
        pusher=ManifestPusher(store.hosted, collector, now=time.time, clock=runtime.reactor),
        deleter=HostedDeletion(store.hosted, config.delete),
        blobs=store.blobs,
        manifests=store.manifests,
    )
