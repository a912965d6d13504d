"""Peers: which addresses an upstream may lead us to.

A registry names URLs: token realms, redirects. A hostile or broken one could name those of our
own network, `http://169.254.169.254/` or the router, and have us ask in its place (SSRF). So
addresses that the public internet does not reach are refused, unless the upstream itself lives
among them: a registry on a LAN may redirect within the LAN.

A name can resolve to anything, and differently each time. So the connected peer is judged, before
a byte is sent, TLS's included; a literal is judged before a connection is made. What the operator
named (the upstream's own host, its realm, a proxy) is never refused. Behind a proxy we see no
peers: there only literals are judged, and the rest is for the proxy to refuse.
"""

from collections.abc import Collection
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from mirrord.oci.errors import UpstreamRefused
from mirrord.upstream.origin import is_private


@attrs.define(eq=False)
class AddressPolicy:
    """Judges the hosts and addresses that one upstream leads to."""

    _home: str
    _trusted: Collection[str]
    is_home_private: bool = attrs.field(init=False)
    _is_home_public: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.is_home_private = is_private(self._home) or self._home == "localhost"

    def check_host(self, host: str) -> None:
        """Refuse the literal of a private address, and what is always one.

        Raises:
            UpstreamRefused: `host` must not be connected to.
        """
        is_local = is_private(host) or host == "localhost" or host.endswith(".localhost")
        if is_local and not self._is_allowed(host):
            raise UpstreamRefused("the upstream led to a private address")

    def check_peer(self, host: str, address: IAddress) -> None:
        """Refuse a connection that was made to `host` and ended at a private address.

        Raises:
            UpstreamRefused: Nothing must be said on it.
        """
        is_local = not isinstance(address, IPv4Address | IPv6Address) or is_private(address.host)
        if host == self._home:
            # Once seen in public it is never private again: its names are its own to change.
            self._is_home_public = self._is_home_public or not is_local
            self.is_home_private = is_local and not self._is_home_public
        elif is_local and not self._is_allowed(host):
            raise UpstreamRefused("the upstream led to a private address")

    def _is_allowed(self, host: str) -> bool:
        return self.is_home_private or host == self._home or host in self._trusted


@implementer(IStreamClientEndpoint)
@attrs.frozen
class GuardedEndpoint:
    """Connects as another endpoint does, and hangs up on a peer that is refused."""

    _endpoint: IStreamClientEndpoint
    _peers: AddressPolicy
    _host: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """A connection to a peer that is allowed; fails with UpstreamRefused where it is not."""
        connecting: Deferred[IProtocol] = self._endpoint.connect(
            _GuardedFactory(protocolFactory, self._peers, self._host)
        )
        return connecting


class _GuardedFactory(Factory):
    """Builds the real protocol only where the peer is allowed."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, peers: AddressPolicy, host: str) -> None:
        self._factory = factory
        self._peers = peers
        self._host = host

    def buildProtocol(self, addr: Any) -> Any:
        """The real protocol; a peer that is not allowed is refused before a byte is sent.

        Raises:
            UpstreamRefused: It is not allowed.
        """
        self._peers.check_peer(self._host, addr)
        return self._factory.buildProtocol(addr)
