"""The agent: how a request reaches an upstream's hosts, layer by layer.

    treq.HTTPClient          stores no cookies, buffers no bodies, follows no redirects
    └── IdentityAgent        our User-Agent; identity encoding (treq would request gzip)
        └── RoutingAgent     http by a proxy: the absolute form; all else: directly, or by CONNECT
            └── Agent        one pool of connections per upstream
                ├── endpoints: TLS over a tunnel (proxy.py) or a guarded connection (address_policy.py)
                └── Connection: limits the size of response heads

The number of connections in use is not limited: a blob is one connection, and none is queued behind
another blob.
"""

from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
from OpenSSL.SSL import Context
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import platformTrust
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    ProxyAgent,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from mirrord.config.config import UpstreamConfig
from mirrord.upstream.address_policy import AddressPolicy, GuardedEndpoint
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.proxy import Proxy, ProxyRules, TunnelEndpoint

MAX_HEAD_BYTES = 64 * 1024
"""Of status lines and headers before a body, and of what arrived together with their last bytes."""

MAX_IDLE_CONNECTIONS = 8
"""Open connections per host that are not in use."""

IDLE_CONNECTION_SECONDS = 55
"""Most front ends close after 60; we close first."""


def _user_agent() -> bytes:
    try:
        return f"mirrord/{version('mirrord')}".encode("ascii")
    except PackageNotFoundError:
        return b"mirrord"


USER_AGENT = _user_agent()


def http_client(agent: IAgent) -> HTTPClient:
    """Return a treq client over `agent` that accepts no cookies."""
    jar = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return HTTPClient(IdentityAgent(agent), cookiejar=jar)


def network_agent(
    config: UpstreamConfig,
    reactor: Any,
    pool: HTTPConnectionPool,
    addresses: AddressPolicy,
    environment: Mapping[str, str],
) -> IAgent:
    """Return the agent that sends requests to an upstream over the network.

    Raises:
        ValueError: The configured proxy, or one in the environment, is invalid.
    """
    trust = AddedTrust(config.ca) if config.ca is not None else None
    proxies = ProxyRules.of(config.proxy, environment)
    endpoints = Endpoints(
        reactor=reactor,
        policy=HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(trust)),
        connect_seconds=config.connect_timeout,
        addresses=addresses,
        proxies=proxies,
    )
    return RoutingAgent(reactor=reactor, pool=pool, endpoints=endpoints, proxies=proxies)


@implementer(IAgent)
@attrs.frozen
class IdentityAgent:
    """Requests bodies without content coding, and delivers them unchanged.

    A digest names the bytes as they are stored. treq always requests gzip and decodes what has that
    Content-Encoding, which some stores send with layers that are gzip themselves; so this is below treq.
    """

    _agent: IAgent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """Send a request with our User-Agent and identity encoding."""
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        headers.setRawHeaders(b"User-Agent", [USER_AGENT])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(_without_coding)


def _without_coding(response: IResponse) -> IResponse:
    response.headers.removeHeader(b"Content-Encoding")
    return response


@implementer(IAgent)
@attrs.define(eq=False, kw_only=True)
class RoutingAgent:
    """Sends http requests through a proxy in the absolute form, all others through the endpoints."""

    _reactor: Any
    _pool: HTTPConnectionPool
    _endpoints: "Endpoints"
    _proxies: ProxyRules
    _direct: Agent = attrs.field(init=False)
    _by_proxy: dict[Proxy, ProxyAgent] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._direct = Agent.usingEndpointFactory(self._reactor, self._endpoints, self._pool)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """Send a request by the route to `uri`."""
        origin = WebOrigin.of(uri.decode("ascii"))
        proxy = None if origin.is_secure else self._proxies.choose(origin)
        if proxy is None:
            return self._direct.request(method, uri, headers, bodyProducer)
        headers = Headers() if headers is None else headers.copy()
        if proxy.authorization is not None:
            headers.setRawHeaders(b"Proxy-Authorization", [proxy.authorization])
        requesting: Deferred[IResponse] = self._agent_for(proxy).request(method, uri, headers, bodyProducer)
        return requesting

    def _agent_for(self, proxy: Proxy) -> ProxyAgent:
        agent = self._by_proxy.get(proxy)
        if agent is None:
            endpoint = self._endpoints.endpoint_for_proxy(proxy)
            agent = self._by_proxy[proxy] = ProxyAgent(endpoint, self._reactor, self._pool)
        return agent


@implementer(IAgentEndpointFactory)
@attrs.frozen(kw_only=True)
class Endpoints:
    """Connects to a guarded host or through a tunnel, with TLS on top for https."""

    _reactor: Any
    _policy: IPolicyForHTTPS
    _connect_seconds: float
    _addresses: AddressPolicy
    _proxies: ProxyRules

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802 - Twisted's name
        """Return the endpoint for a URI that is not requested in the absolute form."""
        origin = WebOrigin.of(uri.toBytes().decode("ascii"))
        proxy = self._proxies.choose(origin)
        endpoint: IStreamClientEndpoint
        if proxy is None:
            direct = self._connect(origin.host, origin.port)
            endpoint = GuardedEndpoint(direct, self._addresses, origin)
        else:
            endpoint = TunnelEndpoint(self.endpoint_for_proxy(proxy), proxy, origin)
        return self._wrap_tls(endpoint, origin.host, origin.port) if origin.is_secure else endpoint

    def endpoint_for_proxy(self, proxy: Proxy) -> IStreamClientEndpoint:
        """Return the endpoint of a proxy itself."""
        endpoint = self._connect(proxy.host, proxy.port)
        return self._wrap_tls(endpoint, proxy.host, proxy.port) if proxy.is_secure else endpoint

    def _connect(self, host: str, port: int) -> IStreamClientEndpoint:
        return HostnameEndpoint(self._reactor, host, port, timeout=self._connect_seconds)

    def _wrap_tls(self, endpoint: IStreamClientEndpoint, host: str, port: int) -> IStreamClientEndpoint:
        return wrapClientTLS(self._policy.creatorForNetloc(host.encode("ascii"), port), endpoint)


@implementer(IOpenSSLTrustRoot)
@attrs.frozen
class AddedTrust:
    """The system's certificate authorities and those of one more file.

    Twisted can replace the system's authorities but not add to them; its interface for this is private
    (`IOpenSSLTrustRoot`), which is covered by a test.
    """

    _path: Path

    def _addCACertsToContext(self, context: Context) -> None:  # noqa: N802 - Twisted's name
        platformTrust()._addCACertsToContext(context)
        context.load_verify_locations(str(self._path))


def connection_pool(reactor: Any) -> HTTPConnectionPool:
    """Return a pool for the connections of one upstream: to its registry, token service and stores.

    Twisted has no public interface for the protocol of a pool's connections: the pool's factory and the
    protocol's base class have private names, which is covered by a test over a real socket.
    """
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool._factory = _ConnectionFactory  # type: ignore[assignment]
    pool.maxPersistentPerHost = MAX_IDLE_CONNECTIONS
    pool.cachedConnectionTimeout = IDLE_CONNECTION_SECONDS
    return pool


class Connection(HTTP11ClientProtocol):
    """One connection, closed when a response head exceeds MAX_HEAD_BYTES.

    Twisted limits each line of a head but not their number: an upstream could send headers, or 1xx
    responses, until our memory is full (docs/architecture.md, invariant 10).
    """

    transport: Any
    _head_bytes: int | None = None
    """The bytes received of the expected head; None while none is expected."""

    def request(self, request: Request) -> Deferred[IResponse]:
        """Send a request; the response fires with its head."""
        self._head_bytes = 0
        requesting: Deferred[IResponse] = super().request(request)
        return requesting.addBoth(self._head_ended)

    def dataReceived(self, data: bytes) -> None:
        """Parse bytes, and close the connection if the head is too long."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abortConnection()

    def _head_ended(self, result: Any) -> Any:
        self._head_bytes = None
        return result


class _ConnectionFactory(Factory):
    """Builds connections for a pool without logging each."""

    noisy = False

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None], _metadata: object) -> None:
        self._quiescent = quiescent

    def buildProtocol(self, addr: object) -> Connection:
        """Build a connection that notifies the pool when it is idle."""
        return Connection(self._quiescent)  # type: ignore[no-untyped-call]
