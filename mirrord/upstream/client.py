"""UpstreamClient: a registry we pull from, as `mirrored/ports.py` wants it (`Upstream`).

One client speaks to one upstream as one account; what it knows (tokens, connections, circuit, quota)
is its own. Nothing is asked before somebody wants something.
"""

from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.iweb import IAgent

from mirrord.config.config import UpstreamConfig
from mirrord.observe.metrics import Metrics
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryName
from mirrord.upstream.address_policy import AddressPolicy
from mirrord.upstream.agent import http_client, network_agent
from mirrord.upstream.api import RegistryAPI
from mirrord.upstream.authorization import Authorizer
from mirrord.upstream.blobs import BlobRequests
from mirrord.upstream.body import BodyReader, UpstreamBlobBody
from mirrord.upstream.circuit import Circuit, CircuitState
from mirrord.upstream.connection import connection_pool
from mirrord.upstream.deadline import Deadline
from mirrord.upstream.lists import ListRequests
from mirrord.upstream.manifests import ManifestRequests
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.quota import Quota
from mirrord.upstream.tokens import TokenCache
from mirrord.upstream.transport import HTTPTransport

CLOSE_SECONDS = 1.0
"""How long `close` waits for idle connections to say goodbye."""

LIST_ATTEMPTS = 2
HEAD_ATTEMPTS = 3


@attrs.frozen
class UpstreamStatus:
    """How an upstream does, for the operator.

    `manifests` and `others` are what manifest GETs and all else meet; the waits say for how long
    they are turned away. The last error stays, and grows old: whether it is over, the gates say.
    """

    name: str
    manifests: CircuitState
    manifests_wait_seconds: float
    others: CircuitState
    others_wait_seconds: float
    quota: Quota
    last_error: str | None
    last_error_seconds_ago: float | None


class UpstreamClient:
    """A registry we pull from; `mirrored/ports.py` (`Upstream`) says what each method promises.

    `environment` is where HTTPS_PROXY, HTTP_PROXY and NO_PROXY are looked up; `agent` replaces the
    network. The reactor connects, tells the time, resolves names and has a thread pool.

    Raises:
        ValueError: The configured proxy, or one in the environment, is none.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        reactor: Any,
        metrics: Metrics,
        random: Random,
        environment: Mapping[str, str],
        agent: IAgent | None = None,
    ) -> None:
        self.config = config
        self._reactor = reactor
        self._pool = connection_pool(reactor)
        home = WebOrigin.of(config.url)
        realm = WebOrigin.of(config.realm) if config.realm is not None else None
        peers = AddressPolicy(home.host, () if realm is None else (realm.host,))
        if agent is None:
            agent = network_agent(config, reactor, self._pool, peers, environment)
        self._circuit = circuit = Circuit(random)
        bodies = BodyReader(reactor, config.idle_timeout, partial(metrics.received, config.name))
        wire = HTTPTransport(config.name, http_client(agent), reactor, peers, metrics, bodies)
        tokens = TokenCache(wire, reactor, random)
        account = config.account[0] if config.account else None
        authorizer = Authorizer(home, realm, account, wire, tokens)
        self._api = api = RegistryAPI(config.name, home, wire, circuit, reactor, authorizer, random)
        self._manifests = ManifestRequests(api, reactor)
        self._blobs = BlobRequests(api)
        self._lists = ListRequests(api)

    @property
    def name(self) -> str:
        """Its name: what `?ns=` says."""
        return self.config.name

    def is_degraded(self, *, of_manifests: bool) -> bool:
        """Whether it failed recently, so that cached content should be served without a request."""
        return self._circuit.is_degraded(self._reactor.seconds(), of_manifests=of_manifests)

    def mark_degraded(self) -> None:
        """Record that a request went unanswered: serve cached content without a request for a short time."""
        self._circuit.mark_degraded(self._reactor.seconds())

    async def resolve(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Descriptor | None:
        """What a reference names, by HEAD; None where the upstream does not say so in its headers."""
        deadline = self._deadline(budget_seconds)
        return await self._api.persist(
            lambda: self._manifests.resolve(repository, reference, deadline), attempts, deadline
        )

    async def fetch_manifest(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Manifest:
        """A manifest, verified against `reference` if that is a digest, and against the digest header."""
        deadline = self._deadline(budget_seconds)
        return await self._api.persist(
            lambda: self._manifests.fetch(repository, reference, deadline), attempts, deadline
        )

    async def head_blob(
        self, repository: RepositoryName, digest: Digest, *, budget_seconds: float
    ) -> int | None:
        """That the repository has the blob: its size, None where the upstream does not tell."""
        deadline = self._deadline(budget_seconds)
        return await self._api.persist(
            lambda: self._blobs.head(repository, digest, deadline), HEAD_ATTEMPTS, deadline
        )

    async def fetch_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        offset: int = 0,
        stop: int | None = None,
        validator: str | None = None,
        budget_seconds: float,
    ) -> UpstreamBlobBody:
        """Ask once for the bytes from `offset` to before `stop`; the body says what really comes."""
        deadline = self._deadline(budget_seconds)
        if offset and stop is None:
            self._api.wire.retried()
        return await self._blobs.fetch(
            repository, digest, offset=offset, stop=stop, validator=validator, deadline=deadline
        )

    async def list_tags(self, repository: RepositoryName, *, budget_seconds: float) -> list[str]:
        """All tags of a repository, every page of them, sorted."""
        deadline = self._deadline(budget_seconds)
        return await self._api.persist(
            lambda: self._lists.tags(repository, deadline), LIST_ATTEMPTS, deadline
        )

    async def list_referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, *, budget_seconds: float
    ) -> tuple[bytes, bool]:
        """The image index of what refers to `digest`, all pages; and whether the artifact type was applied.

        Raises:
            ManifestUnknown: The upstream has no referrers API; clients then look for the fallback tag.
        """
        deadline = self._deadline(budget_seconds)
        return await self._api.persist(
            lambda: self._lists.referrers(repository, digest, artifact_type, deadline),
            LIST_ATTEMPTS,
            deadline,
        )

    def status(self) -> UpstreamStatus:
        """How it does, as far as is known without asking."""
        now = self._reactor.seconds()
        state, wait = self._circuit.state, self._circuit.wait_seconds
        error = self._api.last_error
        return UpstreamStatus(
            self.name,
            state(now, of_manifests=True),
            wait(now, of_manifests=True),
            state(now, of_manifests=False),
            wait(now, of_manifests=False),
            self._api.quota,
            None if error is None else error.message,
            None if error is None else now - error.at,
        )

    def close(self) -> Deferred[None]:
        """Drop the idle connections; fires when they are closed, or after a moment."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        closing.addTimeout(CLOSE_SECONDS, self._reactor)
        return closing.addErrback(lambda _: None)

    def _deadline(self, budget_seconds: float) -> Deadline:
        return Deadline.after(self._reactor, budget_seconds)
