"""Forward proxies between us and an upstream: CONNECT for https, the absolute form for http.

RFC 9110, section 9.3.6; RFC 9112, section 3.2.2.

Twisted supports only the latter (twisted#5324), and no maintained library supports the former.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import unquote

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mirrord.config.defaults import proxy_variables
from mirrord.config.types import split_proxy_url
from mirrord.oci.errors import UpstreamUnreachable
from mirrord.upstream.origin import DEFAULT_PORTS, WebOrigin

_MAX_HEAD_BYTES = 16 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")


@attrs.frozen(kw_only=True)
class Proxy:
    """A proxy, itself connected to with or without TLS, and its Proxy-Authorization."""

    host: str
    port: int
    is_secure: bool = False
    authorization: bytes | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse `http://user:password@host:port` as `curl` does; `host:port` alone is http.

        Raises:
            ValueError: It is not the URL of an HTTP proxy; the message contains no part of it.
        """
        parts = split_proxy_url(url)
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            authorization = b"Basic " + base64.b64encode(pair)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        return cls(
            host=parts.hostname or "",
            port=port,
            is_secure=parts.scheme == "https",
            authorization=authorization,
        )


@attrs.frozen
class ProxyRules:
    """Which proxy to use for an origin: by its scheme, unless it is exempt."""

    _by_scheme: Mapping[str, Proxy]
    _exempt: tuple[str, ...] = ()

    @classmethod
    def of(cls, configured: str | None, environment: Mapping[str, str]) -> Self:
        """Use the configured proxy for all origins, else those of the environment.

        HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in either case, lowercase first.

        Raises:
            ValueError: A value is not the URL of an HTTP proxy.
        """
        if configured is not None:
            proxy = Proxy.parse(configured)
            return cls({"http": proxy, "https": proxy})
        by_scheme = {scheme: Proxy.parse(url) for scheme, (_, url) in proxy_variables(environment).items()}
        exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        return cls(by_scheme, tuple(exempt.lower().replace(",", " ").split()))

    def choose(self, origin: WebOrigin) -> Proxy | None:
        """Return the proxy for an origin; None to connect directly."""
        if any(_covers(entry, origin) for entry in self._exempt):
            return None
        return self._by_scheme.get(origin.scheme)


def _covers(entry: str, origin: WebOrigin) -> bool:
    """Return whether an entry of NO_PROXY matches: `*`, a network, a host or domain, with or without port."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit():
        if port != str(origin.port):
            return False
        entry = name
    domain = entry.strip("[]").removeprefix("*").lstrip(".")
    return bool(domain) and (origin.host == domain or origin.host.endswith(f".{domain}"))


@implementer(IStreamClientEndpoint)
@attrs.frozen
class TunnelEndpoint:
    """Connects to an origin through a proxy, by CONNECT."""

    _endpoint: IStreamClientEndpoint
    _proxy: Proxy
    _origin: WebOrigin

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """Return the protocol inside the tunnel; fails with UpstreamUnreachable if the proxy rejects it."""
        established: Deferred[IProtocol] = Deferred(lambda _: tunnel.cancel())
        tunnel = _Tunnel(self._request(), protocolFactory, established)
        connecting: Any = self._endpoint.connect(_TunnelFactory.forProtocol(lambda: tunnel))
        tunnel.connecting = connecting
        connecting.addErrback(tunnel.failed)
        return established

    def _request(self) -> bytes:
        authority = self._origin.authority.encode("ascii")
        lines = [b"CONNECT %b HTTP/1.1" % authority, b"Host: %b" % authority]
        if self._proxy.authorization is not None:
            lines.append(b"Proxy-Authorization: " + self._proxy.authorization)
        return b"\r\n".join([*lines, b"", b""])


class _TunnelFactory(Factory):
    """Builds one given tunnel."""

    noisy = False


class _Tunnel(Protocol):
    """Requests the tunnel, then passes everything to the protocol inside it."""

    transport: Any = None
    connecting: Deferred[Any] | None = None

    def __init__(self, request: bytes, factory: IProtocolFactory, established: Deferred[IProtocol]) -> None:
        self._request = request
        self._factory = factory
        self._established: Deferred[IProtocol] | None = established
        self._head = b""
        self._inner: Any = None

    def makeConnection(self, transport: Any) -> None:
        """Request the tunnel."""
        self.transport = transport
        transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Parse the proxy's response, then pass on the bytes of the origin."""
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._head += data
        head, blank, rest = self._head.partition(b"\r\n\r\n")
        status = _STATUS_LINE.match(self._head)
        if status is not None and status[1][:1] != b"2":
            self._fail(f"the proxy responded with {status[1].decode()}")
        elif len(self._head) > _MAX_HEAD_BYTES or (blank and status is None):
            self._fail("the proxy did not respond in HTTP")
        elif blank and head:
            self._establish(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection to the proxy was closed, before or after the tunnel was established."""
        if self._inner is not None:
            self._inner.connectionLost(reason)
        else:
            self._fail("the proxy closed the connection")

    def failed(self, reason: Failure) -> None:
        """No connection to the proxy could be made."""
        established, self._established = self._established, None
        if established is not None:
            established.errback(reason)

    def cancel(self) -> None:
        """Close the connection, or stop connecting: the tunnel is no longer needed."""
        self._established = None
        if self.transport is not None:
            self.transport.abortConnection()
        elif self.connecting is not None:
            self.connecting.cancel()

    def _establish(self, rest: bytes) -> None:
        established, self._established = self._established, None
        if established is None:
            return
        self._head = b""
        try:
            inner: Any = self._factory.buildProtocol(self.transport.getPeer())
            if inner is None:
                raise NoProtocol
        except Exception:  # noqa: BLE001 - any error is passed to the caller of connect
            self.transport.abortConnection()
            established.errback(Failure())
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        established.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _fail(self, message: str) -> None:
        established, self._established = self._established, None
        if established is not None:
            self.transport.abortConnection()
            established.errback(Failure(UpstreamUnreachable(message)))
