"""Repositories: the router of one configuration, with both implementations of `Repository` behind it."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from mirrord.config.config import Config
from mirrord.daemon.runtime import Runtime
from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.referrers import HostedReferrers
from mirrord.hosted.repository import HostedRepository, HostedServices
from mirrord.hosted.uploads import Uploader
from mirrord.mirrored.freshness import FreshnessPolicy
from mirrord.mirrored.lists import ListCache, MirroredReferrers, MirroredTags
from mirrord.mirrored.manifest_resolver import ManifestResolver
from mirrord.mirrored.manifests import MirroredManifests
from mirrord.mirrored.removal import MirroredRemoval
from mirrord.mirrored.repository import MirroredRepository, MirroredServices
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.oci.names import RepositoryName
from mirrord.routing import Router, StoredRepositories, UpstreamRoute
from mirrord.upstream.circuit import CircuitState
from mirrord.upstream.client import UpstreamClient


def build_router(runtime: Runtime, config: Config, upstreams: Mapping[str, UpstreamClient]) -> Router:
    """Return the router of `config`."""
    store = runtime.store
    mirrored = _mirrored_services(runtime, config, upstreams)

    def is_configured(name: RepositoryName) -> bool:
        return router.is_hosted_by_configuration(name)

    hosted = _hosted_services(runtime, config, is_configured)
    router = Router.of(
        (UpstreamRoute(each.name, each.prefix, allow=each.allow, deny=each.deny) for each in config.upstream),
        hosted_patterns=config.hosted.repositories if config.hosted.enabled else (),
        open_mirrored=partial(MirroredRepository, services=mirrored),
        open_hosted=partial(HostedRepository, services=hosted),
        stored=StoredRepositories(
            of_upstream=store.index.repositories,
            hosted=store.hosted.repositories,
            mirrored=store.browser.sources,
            has_hosted=store.hosted.has,
        ),
    )
    return router


def _mirrored_services(
    runtime: Runtime, config: Config, upstreams: Mapping[str, UpstreamClient]
) -> MirroredServices:
    store, caches, stale_seconds = runtime.store, runtime.caches, config.freshness.stale_if_error
    default_ttl = config.freshness.tag_ttl
    ttls = {each.name: default_ttl if each.tag_ttl is None else each.tag_ttl for each in config.upstream}
    stale_if_error = StaleIfError(upstreams, runtime.reactor)
    resolver = ManifestResolver(
        upstreams=upstreams,
        index=store.index,
        writer=runtime.cache_writer,
        confirmation=runtime.confirmation,
        references=runtime.references,
        hints=runtime.hints,
        now=time.time,
        negative_ttl=config.freshness.negative_ttl,
        absent=caches.absences,
    )
    manifests = MirroredManifests(
        manifests=store.manifests,
        index=store.index,
        resolver=resolver,
        freshness={name: FreshnessPolicy(ttl, stale_seconds) for name, ttl in ttls.items()},
        stale_if_error=stale_if_error,
        now=time.time,
    )
    return MirroredServices(
        manifests=manifests,
        blobs=runtime.downloads,
        tags=MirroredTags(upstreams, ListCache(stale_if_error, stale_seconds, caches.tags)),
        referrers=MirroredReferrers(upstreams, ListCache(stale_if_error, stale_seconds, caches.referrers)),
        removal=MirroredRemoval(store.browser, runtime.reactor),
        index=store.index,
        files=store.blobs,
        content=store.browser,
        problem=lambda upstream: _problem(upstreams, upstream),
        tag_ttl=ttls,
        default_tag_ttl=default_ttl,
        now=time.time,
    )


def _hosted_services(
    runtime: Runtime, config: Config, is_configured: Callable[[RepositoryName], bool]
) -> HostedServices:
    store, collector, clock = runtime.store, runtime.collector, runtime.reactor
    return HostedServices(
        links=store.hosted,
        content=store.browser,
        blobs=store.blobs,
        manifests=store.manifests,
        referrers=HostedReferrers(store.hosted, store.manifests),
        uploader=Uploader(store.uploads, collector, config.hosted.max_upload_size),
        mounter=Mounter(store.hosted),
        pusher=ManifestPusher(links=store.hosted, content=store.browser, space=collector, clock=clock),
        deletion=HostedDeletion(
            links=store.hosted, graph=store.hosted_gc, clock=clock, is_allowed=config.hosted.delete
        ),
        is_configured=is_configured,
        clock=clock,
    )


def _problem(upstreams: Mapping[str, UpstreamClient], upstream: str) -> str | None:
    """Return why no request would be sent to an upstream now; None if one would."""
    client = upstreams.get(upstream)
    if client is None:
        return f"{upstream} is not configured"
    status = client.status()
    requests, wait = upstream, status.others_wait_seconds
    if status.others is CircuitState.CLOSED:
        if status.manifests is CircuitState.CLOSED:
            return None
        requests, wait = f"manifests of {upstream}", status.manifests_wait_seconds
    error = f": {status.last_error}" if status.last_error else ""
    return f"circuit open for {requests} for {max(0.0, wait):.0f} s{error}"
