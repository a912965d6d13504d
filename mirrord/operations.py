"""Operations: the operator's use cases, joined over a foundation."""

import time
from functools import partial

from twisted.internet.defer import DeferredLock

from mirrord.access.rules import Action, Rules
from mirrord.admin.ports import Operations
from mirrord.config import Config
from mirrord.foundation import Foundation
from mirrord.hosting import AccessConfig
from mirrord.oci.errors import Denied
from mirrord.oci.hosted import HOSTED
from mirrord.oci.names import DOCKER_HUB, Repository, Source
from mirrord.oci.references import LATEST
from mirrord.oci.routes import ManifestRoute, Target
from mirrord.operate.answers import Permissions
from mirrord.operate.hosted_inquiry import HostedExplainer
from mirrord.operate.hosted_removal import HostedRemover
from mirrord.operate.inquiry import Explainer
from mirrord.operate.listing import RepositoryLister
from mirrord.operate.ports import Sources
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

    is_hosted = partial(_is_hosted, sources)
    hosted, visitors = store.hosted, foundation.memories.visitors
    verifier = Verifier(
        store.audit,
        store.reconciled,
        inventory,
        hosted,
        sources,
        manifests,
        blobs,
        is_busy,
        verifying,
        reactor,
    )
    explainer = Explainer(
        sources,
        inventory,
        HostedExplainer(hosted, inventory, visitors, is_hosted),
        partial(_permissions, config.access),
        lambda: {running.digest: running.written for running in puller.running},
        lambda upstream: _why_not(foundation, upstream),
        visitors,
        tag_ttl,
        time.time,
    )
    return Operations(
        RepositoryLister(inventory, hosted, tag_ttl, reactor),
        Remover(inventory, HostedRemover(hosted, store.hosted_shelf, reactor), reactor),
        Sweeper(foundation.collector),
        ImagePuller(sources, manifests, blobs, reactor),
        verifier,
        explainer,
        lambda repository: hosted.has(repository) or is_hosted(repository),
    )


def _is_hosted(sources: Sources, repository: Repository) -> bool:
    """Whether a client that names no upstream means a hosted repository."""
    try:
        return sources.locate(Target(ManifestRoute(repository, LATEST)), DOCKER_HUB).upstream == HOSTED
    except Denied:
        return False


def _permissions(access: AccessConfig | None, source: Source) -> Permissions | None:
    """Who may do what, where there are rules about that."""
    if access is None:
        return None
    rules = Rules.of(access)
    pull, push, delete = (
        tuple(sorted(map(str, rules.parties(action, source))))
        for action in (Action.PULL, Action.PUSH, Action.DELETE)
    )
    return Permissions(pull, push, delete) if source.upstream == HOSTED else Permissions(pull, (), ())


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
