"""Operations: the operator's use cases, joined over a foundation."""

import time
from functools import partial

from twisted.internet.defer import DeferredLock

from mirrord.access.rules import Action, Rules
from mirrord.admin.explanation import Explainer
from mirrord.admin.hosted_explanation import HostedExplainer
from mirrord.admin.hosted_removal import HostedRemover
from mirrord.admin.listing import RepositoryLister
from mirrord.admin.ports import Operations
from mirrord.admin.pull import ImagePuller
from mirrord.admin.removal import Remover
from mirrord.admin.results import Permissions
from mirrord.admin.store_ports import Sources
from mirrord.admin.sweep import Sweeper
from mirrord.admin.verification import Verifier
from mirrord.api.ports import UseCases
from mirrord.config.access import AccessConfig
from mirrord.config.config import Config
from mirrord.daemon.runtime import Runtime
from mirrord.oci.errors import Denied
from mirrord.oci.names import DOCKER_HUB, HOSTED, RepositoryKey, RepositoryName
from mirrord.oci.references import LATEST
from mirrord.oci.routes import ManifestRoute, Target
from mirrord.upstream.circuit import CircuitState


def join(foundation: Runtime, config: Config, use_cases: UseCases, verifying: DeferredLock) -> Operations:
    """What an operator can ask of the mirror that `config` describes; `verifying` is one for its store."""
    store, reactor, puller = foundation.store, foundation.reactor, foundation.puller
    inventory, sources = store.browser, use_cases.sources
    manifests, blobs = use_cases.manifests, use_cases.blobs
    ttls = {one.name: one.tag_ttl for one in config.upstream if one.tag_ttl is not None}

    def tag_ttl(upstream: str) -> float:
        return ttls.get(upstream, config.freshness.tag_ttl)

    def is_busy() -> bool:
        return store.eviction.busy_bytes > 0

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
        Remover(inventory, HostedRemover(hosted, store.hosted_gc, reactor), reactor),
        Sweeper(foundation.collector),
        ImagePuller(sources, manifests, blobs, reactor),
        verifier,
        explainer,
        lambda repository: hosted.has(repository) or is_hosted(repository),
    )


def _is_hosted(sources: Sources, repository: RepositoryName) -> bool:
    """Whether a client that names no upstream means a hosted repository."""
    try:
        return sources.locate(Target(ManifestRoute(repository, LATEST)), DOCKER_HUB).upstream == HOSTED
    except Denied:
        return False


def _permissions(access: AccessConfig | None, source: RepositoryKey) -> Permissions | None:
    """Who may do what, where there are rules about that."""
    if access is None:
        return None
    rules = Rules.of(access)
    pull, push, delete = (
        tuple(sorted(map(str, rules.principals(action, source))))
        for action in (Action.PULL, Action.PUSH, Action.DELETE)
    )
    return Permissions(pull, push, delete) if source.upstream == HOSTED else Permissions(pull, (), ())


def _why_not(foundation: Runtime, upstream: str) -> str | None:
    """Why an upstream would not be asked now."""
    client = foundation.upstreams.get(upstream)
    if client is None:
        return f"{upstream} is not configured any more"
    status = client.status()
    what, wait = f"{upstream} is", status.others_wait_seconds
    if status.others is CircuitState.CLOSED:
        if status.manifests is CircuitState.CLOSED:
            return None
        what, wait = f"{upstream}'s manifests are", status.manifests_wait_seconds
    reason = f": {status.last_error}" if status.last_error else ""
    return f"{what} not asked for {max(0.0, wait):.0f} s more, for it failed a moment ago{reason}"
