"""Operations: the operator's use cases, composed for one configuration."""

import time
from collections.abc import Mapping
from functools import partial

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
from mirrord.admin.verification import Verifier
from mirrord.api.ports import UseCases
from mirrord.config.access import AccessConfig
from mirrord.config.config import Config
from mirrord.daemon.repositories import tag_ttls
from mirrord.daemon.runtime import Runtime
from mirrord.oci.errors import Denied
from mirrord.oci.names import DOCKER_HUB, HOSTED, RepositoryKey, RepositoryName
from mirrord.oci.references import LATEST
from mirrord.oci.routes import ManifestRoute, Target
from mirrord.upstream.circuit import CircuitState
from mirrord.upstream.client import UpstreamClient


def build_operations(
    runtime: Runtime, config: Config, use_cases: UseCases, upstreams: Mapping[str, UpstreamClient]
) -> Operations:
    """Compose the commands of the operator, for the repositories of `config`."""
    store, reactor, last_clients = runtime.store, runtime.reactor, runtime.last_clients
    inventory, hosted, router = store.browser, store.hosted, use_cases.sources
    manifests, blobs = use_cases.manifests, use_cases.blobs
    ttls = tag_ttls(config)

    def tag_ttl(upstream: str) -> float:
        return ttls.get(upstream, config.freshness.tag_ttl)

    is_hosted = partial(_is_hosted, router)
    verifier = Verifier(
        audit=store.audit,
        reconciled=store.reconciled,
        inventory=inventory,
        hosted=hosted,
        sources=router,
        manifests=manifests,
        blobs=blobs,
        is_busy=lambda: store.eviction.busy_bytes > 0,
        turn=runtime.verification_lock,
        clock=reactor,
    )
    explainer = Explainer(
        sources=router,
        inventory=inventory,
        hosted=HostedExplainer(hosted, inventory, visitors=last_clients, is_hosted=is_hosted),
        permissions=partial(_permissions, config.access),
        downloads=lambda: {running.digest: running.written for running in runtime.downloads.running},
        condition=partial(_circuit_reason, upstreams),
        visitors=last_clients,
        tag_ttl=tag_ttl,
        now=time.time,
    )
    return Operations(
        lister=RepositoryLister(inventory, hosted, tag_ttl=tag_ttl, clock=reactor),
        remover=Remover(inventory, HostedRemover(hosted, store.hosted_gc, reactor), reactor),
        collector=runtime.collector,
        puller=ImagePuller(router, manifests, blobs, clock=reactor),
        verifier=verifier,
        explainer=explainer,
        is_hosted=lambda repository: hosted.has(repository) or is_hosted(repository),
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


def _circuit_reason(upstreams: Mapping[str, UpstreamClient], upstream: str) -> str | None:
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
