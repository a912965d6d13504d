"""AddressPolicy: which addresses an upstream may direct requests to.

A registry names URLs: token realms and redirects. A hostile or broken one could name those of our own
network, `http://169.254.169.254/`, the router, or a port of this host that only this host can reach, and have
them requested by us (SSRF). So an upstream may direct us to the public internet and to addresses of its own
class (address_class.py): a registry on a LAN may redirect within the LAN, but not to loopback. What is of its
class, it could request itself; so the listeners of this daemon need no rule of their own.

A name can resolve to any address, and to another one each time. So the address is checked once
connected, before a byte is sent, those of TLS included; a literal is checked before connecting. The class of
the upstream itself is that of the addresses at which its own host and port were connected to; of several, the
one that reaches furthest, for good. So nothing is gained by letting its name resolve to our network later.

The host and port that the operator configured (of the upstream, its realm, a proxy) are never rejected.
Behind a proxy the addresses are unknown: only literals are checked there, and the rest is for the proxy to
reject.
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
from mirrord.upstream.address_class import AddressClass
from mirrord.upstream.origin import WebOrigin


@attrs.define(eq=False)
class AddressPolicy:
    """Checks the origins and addresses that one upstream directs requests to.

    `home` is the upstream's own origin, `configured` are others that it may use whatever their address.
    """

    _home: WebOrigin
    _configured: Collection[WebOrigin]
    _home_class: AddressClass | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._home_class = AddressClass.of_host(self._home.host)

    def check_origin(self, origin: WebOrigin) -> None:
        """Reject an origin whose host is a literal, or a name of loopback, of a class that is not allowed.

        Raises:
            UpstreamRefused: It must not be connected to.
        """
        found = AddressClass.of_host(origin.host)
        if found is not None:
            self._check(origin, found)

    def check_peer(self, origin: WebOrigin, address: IAddress) -> None:
        """Reject a connection to `origin` that was made to an address that is not allowed.

        Raises:
            UpstreamRefused: Nothing must be sent on it.
        """
        found = AddressClass.LOOPBACK
        if isinstance(address, IPv4Address | IPv6Address):
            found = AddressClass.of_host(address.host) or AddressClass.LOOPBACK
        if _is_same_port(origin, self._home):
            self._home_class = found if self._home_class is None else max(found, self._home_class)
        else:
            self._check(origin, found)

    def _check(self, origin: WebOrigin, found: AddressClass) -> None:
        if found is AddressClass.PUBLIC or found is self._home_class:
            return
        if not any(_is_same_port(origin, allowed) for allowed in (self._home, *self._configured)):
            raise UpstreamRefused(f"the upstream pointed to a {found} address")


def _is_same_port(origin: WebOrigin, other: WebOrigin) -> bool:
    """Return whether two origins are at one port of one host, whatever their schemes."""
    return (origin.host, origin.port) == (other.host, other.port)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class GuardedEndpoint:
    """Connects as another endpoint does, and closes the connection to an address that is rejected."""

    _endpoint: IStreamClientEndpoint
    _addresses: AddressPolicy
    _origin: WebOrigin

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        """Connect to an address that is allowed; fails with UpstreamRefused for any other."""
        connecting: Deferred[IProtocol] = self._endpoint.connect(
            _GuardedFactory(protocolFactory, self._addresses, self._origin)
        )
        return connecting


@attrs.define(eq=False)
class _GuardedFactory(Factory):
    """Builds the protocol of another factory for addresses that are allowed."""

    noisy = False

    _factory: IProtocolFactory
    _addresses: AddressPolicy
    _origin: WebOrigin

    def buildProtocol(self, addr: Any) -> Any:
        """Build the protocol before a byte is sent; raises UpstreamRefused unless the address is allowed."""
        self._addresses.check_peer(self._origin, addr)
        return self._factory.buildProtocol(addr)
