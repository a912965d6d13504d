"""UpstreamClient: a registry we pull from; implements `Upstream` of `mirrored/ports.py`.

One client is for one upstream and one account; tokens, connections, circuit and quota are its own. It
sends no request of its own accord.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.web.iweb import IAgent

from mirrord.config.config import UpstreamConfig
from mirrord.observe.metrics import Metrics
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryName
from mirrord.upstream.address_policy import AddressPolicy
from mirrord.upstream.agent import connection_pool, http_client, network_agent
from mirrord.upstream.api import RegistryAPI
from mirrord.upstream.authorization import Authorizer
from mirrord.upstream.blobs import BlobRequests
from mirrord.upstream.body import BodyReader, UpstreamBlobBody
from mirrord.upstream.circuit import Circuit, CircuitState
from mirrord.upstream.lists import ListRequests
from mirrord.upstream.manifests import ManifestRequests
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.quota import Quota
from mirrord.upstream.retry import Deadline, retry
from mirrord.upstream.tokens import TokenCache
from mirrord.upstream.transport import HTTPTransport

T = TypeVar("T")

CLOSE_SECONDS = 1.0
"""How long `close` waits for idle connections to close."""

LIST_ATTEMPTS = 2
HEAD_ATTEMPTS = 3


@attrs.frozen(kw_only=True)
class UpstreamStatus:
    """The state of an upstream, for the operator.

    `manifests` and `others` are the circuit states of manifest GETs and of all other requests, with how
    long these are rejected. The last error is kept after recovery, which the circuit states show.
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
    """A registry we pull from; `Upstream` in `mirrored/ports.py` documents its methods.

    `environment` has HTTPS_PROXY, HTTP_PROXY and NO_PROXY; `agent` replaces the network. The reactor
    connects, is the clock, resolves names and has a thread pool.

    Raises:
        ValueError: The configured proxy, or one in the environment, is invalid.
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
        self._random = random
        self._pool = connection_pool(reactor)
        home = WebOrigin.of(config.url)
        addresses = AddressPolicy(home, () if config.realm is None else (WebOrigin.of(config.realm),))
        if agent is None:
            agent = network_agent(config, reactor, self._pool, addresses, environment)
        self._circuit = Circuit(random)
        transport = HTTPTransport(
            upstream=config.name,
            client=http_client(agent),
            reactor=reactor,
            addresses=addresses,
            metrics=metrics,
            bodies=BodyReader(reactor, config.idle_timeout, partial(metrics.received, config.name)),
        )
        authorizer = Authorizer(config, transport, TokenCache(transport, reactor, random))
        self._api = api = RegistryAPI(
            upstream=config.name,
            username=config.account[0].username if config.account else None,
            home=home,
            transport=transport,
            circuit=self._circuit,
            clock=reactor,
            authorizer=authorizer,
        )
        self._manifests = ManifestRequests(api, reactor)
        self._blobs = BlobRequests(api)
        self._lists = ListRequests(api)

    @property
    def name(self) -> str:
        """Its name, the value of `?ns=`."""
        return self.config.name

    def is_degraded(self, *, of_manifests: bool) -> bool:
        """Return whether it failed recently, so that cached content should be served without a request."""
        return self._circuit.is_degraded(self._reactor.seconds(), of_manifests=of_manifests)

    def mark_degraded(self) -> None:
        """Record that a request went unanswered: serve cached content without a request for a short time."""
        self._circuit.mark_degraded(self._reactor.seconds())

    async def resolve(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Descriptor | None:
        """Resolve a reference by HEAD; None if the headers are incomplete."""
        return await self._with_retries(
            lambda deadline: self._manifests.resolve(repository, reference, deadline),
            attempts,
            budget_seconds,
        )

    async def fetch_manifest(
        self, repository: RepositoryName, reference: Reference, *, budget_seconds: float, attempts: int
    ) -> Manifest:
        """Fetch a manifest, verified against its digest header, and `reference` if that is a digest."""
        return await self._with_retries(
            lambda deadline: self._manifests.fetch(repository, reference, deadline), attempts, budget_seconds
        )

    async def head_blob(
        self, repository: RepositoryName, digest: Digest, *, budget_seconds: float
    ) -> int | None:
        """Check that the repository has the blob; return its size, None if that is not reported."""
        return await self._with_retries(
            lambda deadline: self._blobs.head(repository, digest, deadline), HEAD_ATTEMPTS, budget_seconds
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
        """Request the bytes from `offset` to before `stop`, once; see the body for what is really sent."""
        if offset and stop is None:
            self._api.transport.retried()
        deadline = Deadline.after(self._reactor, budget_seconds)
        return await self._blobs.fetch(
            repository, digest, offset=offset, stop=stop, validator=validator, deadline=deadline
        )

    async def list_tags(self, repository: RepositoryName, *, budget_seconds: float) -> list[str]:
        """List all tags of a repository, sorted."""
        return await self._with_retries(
            lambda deadline: self._lists.tags(repository, deadline), LIST_ATTEMPTS, budget_seconds
        )

    async def list_referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, *, budget_seconds: float
    ) -> tuple[bytes, bool]:
        """Return the index of all referrers of `digest`, and whether it is filtered by artifact type."""
        return await self._with_retries(
            lambda deadline: self._lists.referrers(repository, digest, artifact_type, deadline),
            LIST_ATTEMPTS,
            budget_seconds,
        )

    def status(self) -> UpstreamStatus:
        """Return the state of the upstream without sending a request."""
        now = self._reactor.seconds()
        state, wait = self._circuit.state, self._circuit.wait_seconds
        error = self._api.last_error
        return UpstreamStatus(
            name=self.name,
            manifests=state(now, of_manifests=True),
            manifests_wait_seconds=wait(now, of_manifests=True),
            others=state(now, of_manifests=False),
            others_wait_seconds=wait(now, of_manifests=False),
            quota=self._api.quota,
            last_error=None if error is None else error.message,
            last_error_seconds_ago=None if error is None else now - error.at,
        )

    def close(self) -> Deferred[None]:
        """Close idle connections; fires when they are closed, or after CLOSE_SECONDS."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        closing.addTimeout(CLOSE_SECONDS, self._reactor)
        return closing.addErrback(lambda _: None)

    async def _with_retries(
        self, call: Callable[[Deadline], Awaitable[T]], attempts: int, budget_seconds: float
    ) -> T:
        deadline = Deadline.after(self._reactor, budget_seconds)
        return await retry(
            lambda: call(deadline),
            attempts=attempts,
            deadline=deadline,
            clock=self._reactor,
            random=self._random,
            retried=self._api.transport.retried,
        )
