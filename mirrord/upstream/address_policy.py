"""AddressPolicy: which addresses an upstream may direct requests to.

A registry names URLs: token realms and redirects. A hostile or broken one could name those of our own
network, `http://169.254.169.254/` or the router, and have them requested by us (SSRF). So addresses
that are not reachable from the public internet are rejected, unless the upstream itself is at one: a
registry on a LAN may redirect within the LAN.

A name can resolve to any address, and to another one each time. So the address is checked once
connected, before a byte is sent, those of TLS included; a literal is checked before connecting. What
the operator configured (the upstream's own host, its realm, a proxy) is never rejected. Behind a proxy
the addresses are unknown: only literals are checked there, and the rest is for the proxy to reject.
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
    """Checks the hosts and addresses that one upstream directs requests to."""

    _home: str
    _trusted: Collection[str]
    is_home_private: bool = attrs.field(init=False)
    _is_home_public: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.is_home_private = is_private(self._home) or self._home == "localhost"

    def check_host(self, host: str) -> None:
        """Reject the literal of a private address, and names of loopback.

        Raises:
            UpstreamRefused: `host` must not be connected to.
        """
        is_local = is_private(host) or host == "localhost" or host.endswith(".localhost")
        if is_local and not self._is_allowed(host):
            raise UpstreamRefused("the upstream pointed to a private address")

    def check_peer(self, host: str, address: IAddress) -> None:
        """Reject a connection to `host` that was made to a private address.

        Raises:
            UpstreamRefused: Nothing must be sent on it.
        """
        is_local = not isinstance(address, IPv4Address | IPv6Address) or is_private(address.host)
        if host == self._home:
            # Once public it is never private again: the owner of the name may change its addresses.
            self._is_home_public = self._is_home_public or not is_local
            self.is_home_private = is_local and not self._is_home_public
        elif is_local and not self._is_allowed(host):
            raise UpstreamRefused("the upstream pointed to a private address")

    def _is_allowed(self, host: str) -> bool:
        return self.is_home_private or host == self._home or host in self._trusted


@implementer(IStreamClientEndpoint)
@attrs.frozen
class GuardedEndpoint:
    """Connects as another endpoint does, and closes the connection to an address that is rejected."""

    _endpoint: IStreamClientEndpoint
    _addresses: AddressPolicy
    _host: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """Connect to an address that is allowed; fails with UpstreamRefused for any other."""
        connecting: Deferred[IProtocol] = self._endpoint.connect(
            _GuardedFactory(protocolFactory, self._addresses, self._host)
        )
        return connecting


@attrs.define(eq=False)
class _GuardedFactory(Factory):
    """Builds the protocol of another factory for addresses that are allowed."""

    noisy = False

    _factory: IProtocolFactory
    _addresses: AddressPolicy
    _host: str

    def buildProtocol(self, addr: Any) -> Any:
        """Build the protocol before a byte is sent; raises UpstreamRefused unless the address is allowed."""
        self._addresses.check_peer(self._host, addr)
        return self._factory.buildProtocol(addr)
