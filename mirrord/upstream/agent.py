"""The agent: how a request reaches an upstream's hosts, layer by layer.

    treq.HTTPClient          keeps no cookies, buffers no bodies, follows no redirects
    └── IdentityAgent        our User-Agent; bodies are taken as they are (treq would ask for gzip)
        └── RoutingAgent     http behind a proxy: the absolute form; all else: directly, or by CONNECT
            └── Agent        one pool of connections an upstream
                └── endpoints: TLS over a tunnel or over a guarded connection (proxy.py, address_policy.py)

There is no cap on the connections in use: a blob is one connection, and nobody queues behind
another's blob.
"""

from collections.abc import Mapping
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
from twisted.internet.ssl import platformTrust
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


def _user_agent() -> bytes:
    try:
        return f"mirrord/{version('mirrord')}".encode("ascii")
    except PackageNotFoundError:
        return b"mirrord"


USER_AGENT = _user_agent()


@implementer(IAgent)
@attrs.frozen
class IdentityAgent:
    """Asks for bodies as they are, and takes them so.

    A digest names the bytes as they are stored. treq offers gzip whatever it is told, and decodes
    what calls itself gzip, which some stores say of layers that are; so this stands below treq.
    """

    _agent: IAgent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """A request under our own name, for identity encoding."""
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        headers.setRawHeaders(b"User-Agent", [USER_AGENT])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(_as_it_is)


def _as_it_is(response: IResponse) -> IResponse:
    response.headers.removeHeader(b"Content-Encoding")
    return response


@implementer(IOpenSSLTrustRoot)
@attrs.frozen
class AddedTrust:
    """The system's certificate authorities, and one file of our own beside them.

    Twisted can replace the system's trust and not add to it; its interface for this is private
    (`IOpenSSLTrustRoot`), so a test holds it in place.
    """

    _path: Path

    def _addCACertsToContext(self, context: Context) -> None:  # noqa: N802 - Twisted's name
        platformTrust()._addCACertsToContext(context)
        context.load_verify_locations(str(self._path))


@implementer(IAgentEndpointFactory)
@attrs.frozen
class Endpoints:
    """Where connections go: straight to the guarded host, or through a tunnel; TLS on top for https."""

    _reactor: Any
    _policy: IPolicyForHTTPS
    _connect_seconds: float
    _peers: AddressPolicy
    _proxies: ProxyRules

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802 - Twisted's name
        """The endpoint for a target URI that is not asked for in the absolute form."""
        origin = WebOrigin.of(uri.toBytes().decode("ascii"))
        proxy = self._proxies.choose(origin)
        endpoint: IStreamClientEndpoint
        if proxy is None:
            endpoint = GuardedEndpoint(self._connect(origin.host, origin.port), self._peers, origin.host)
        else:
            endpoint = TunnelEndpoint(self.endpoint_for_proxy(proxy), proxy, origin)
        return self._wrap_tls(endpoint, origin.host, origin.port) if origin.is_secure else endpoint

    def endpoint_for_proxy(self, proxy: Proxy) -> IStreamClientEndpoint:
        """The way to a proxy itself."""
        endpoint = self._connect(proxy.host, proxy.port)
        return self._wrap_tls(endpoint, proxy.host, proxy.port) if proxy.is_secure else endpoint

    def _connect(self, host: str, port: int) -> IStreamClientEndpoint:
        return HostnameEndpoint(self._reactor, host, port, timeout=self._connect_seconds)

    def _wrap_tls(self, endpoint: IStreamClientEndpoint, host: str, port: int) -> IStreamClientEndpoint:
        return wrapClientTLS(self._policy.creatorForNetloc(host.encode("ascii"), port), endpoint)


@implementer(IAgent)
@attrs.define(eq=False)
class RoutingAgent:
    """Sends http requests that a proxy has to carry in the absolute form, everything else as usual."""

    _reactor: Any
    _pool: HTTPConnectionPool
    _endpoints: Endpoints
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
        """A request by whichever way leads to `uri`."""
        origin = WebOrigin.of(uri.decode("ascii"))
        proxy = None if origin.is_secure else self._proxies.choose(origin)
        if proxy is None:
            return self._direct.request(method, uri, headers, bodyProducer)
        headers = Headers() if headers is None else headers.copy()
        if proxy.authorization is not None:
            headers.setRawHeaders(b"Proxy-Authorization", [proxy.authorization])
        asking: Deferred[IResponse] = self._agent_for(proxy).request(method, uri, headers, bodyProducer)
        return asking

    def _agent_for(self, proxy: Proxy) -> ProxyAgent:
        agent = self._by_proxy.get(proxy)
        if agent is None:
            endpoint = self._endpoints.endpoint_for_proxy(proxy)
            agent = self._by_proxy[proxy] = ProxyAgent(endpoint, self._reactor, self._pool)
        return agent


def network_agent(
    config: UpstreamConfig,
    reactor: Any,
    pool: HTTPConnectionPool,
    peers: AddressPolicy,
    environment: Mapping[str, str],
) -> IAgent:
    """The agent that speaks to an upstream over the network.

    Raises:
        ValueError: The configured proxy, or one in the environment, is none.
    """
    trust = AddedTrust(config.ca) if config.ca is not None else None
    policy = HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(trust))
    proxies = ProxyRules.of(config.proxy, environment)
    endpoints = Endpoints(reactor, policy, config.connect_timeout, peers, proxies)
    return RoutingAgent(reactor, pool, endpoints, proxies)


def http_client(agent: IAgent) -> HTTPClient:
    """The client of treq over `agent`, which no server can give a cookie."""
    jar = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return HTTPClient(IdentityAgent(agent), cookiejar=jar)
