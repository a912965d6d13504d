"""Operations: the operator's use cases, joined over a foundation."""

import time

from twisted.internet.defer import DeferredLock

from mirrord.admin.ports import Operations
from mirrord.config import Config
from mirrord.foundation import Foundation
from mirrord.operate.inquiry import Explainer
from mirrord.operate.listing import RepositoryLister
from mirrord.operate.pulling import ImagePuller
from mirrord.operate.removal import Remover
from mirrord.operate.sweeping import Sweeper
from mirrord.operate.verification import Verifier
from mirrord.upstream.circuit import GateState
from mirrord.web.ports import UseCases


def join(foundation: Foundation, config: Config, use_cases: UseCases, verifying: DeferredLock) -> Operations:
    """What an operator can ask of the mirror that `config` describes; `verifying` is one for its store."""
    store, reactor, puller = foundation.store, foundation.reactor, foundation.puller
    inventory, sources = store.inventory, use_cases.sources
    manifests, blobs = use_cases.manifests, use_cases.blobs
    ttls = {one.name: one.tag_ttl for one in config.upstream if one.tag_ttl is not None}

    def tag_ttl(upstream: str) -> float:
        return ttls.get(upstream, config.freshness.tag_ttl)

    def is_busy() -> bool:
        return store.shelf.busy_bytes > 0

    verifier = Verifier(store.audit, inventory, sources, manifests, blobs, is_busy, verifying, reactor)
    explainer = Explainer(
        sources,
        inventory,
        lambda: {running.digest: running.written for running in puller.running},
        lambda upstream: _why_not(foundation, upstream),
        foundation.memories.visitors,
        tag_ttl,
        time.time,
    )
    return Operations(
        RepositoryLister(inventory, tag_ttl, reactor),
        Remover(inventory, reactor),
        Sweeper(foundation.collector),
        ImagePuller(sources, manifests, blobs, reactor),
        verifier,
        explainer,
    )


def _why_not(foundation: Foundation, upstream: str) -> str | None:
    """Why an upstream would not be asked now."""
    client = foundation.upstreams.get(upstream)
    if client is None:
        return f"{upstream} is not configured any more"
    status = client.status()
    what, wait = f"{upstream} is", status.others_wait_seconds
    if status.others is GateState.CLOSED:
        if status.manifests is GateState.CLOSED:
            return None
        what, wait = f"{upstream}'s manifests are", status.manifests_wait_seconds
    reason = f": {status.last_error}" if status.last_error else ""
    return f"{what} not asked for {max(0.0, wait):.0f} s more, for it failed a moment ago{reason}"
