"""Forwarded: who a client is that comes through proxies of the operator's.

`X-Forwarded-For` grows to the right: each proxy appends whom it was asked by. Anybody can begin it
with any address, so it is walked from the right, and believed as long as the one who wrote a piece is
trusted. The first address that is not is the client.
"""

from ipaddress import IPv4Network, IPv6Network

import attrs
from twisted.internet.interfaces import IAddress

from mirrord.config.addresses import parse_address

NO_ADDRESS = "unix"
"""The address of a client on a Unix socket, which has none. Who may use the socket, its mode says."""


@attrs.frozen
class TrustedProxies:
    """The networks of proxies whose word is taken for who the client is."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def trusts(self, address: str) -> bool:
        """Whether the peer of this address is such a proxy; on a Unix socket, where any are configured."""
        if not self.networks or address == NO_ADDRESS:
            return bool(self.networks)
        read = parse_address(address)
        return read is not None and any(read in network for network in self.networks)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """The client's address, by the address of the connection's peer and `X-Forwarded-For`."""
        address = peer
        for word in reversed(forwarded_for.split(",")):
            if not self.trusts(address):
                break
            named = parse_address(_without_port(word.strip()))
            if named is None:
                break
            address = str(named)
        return address

    def scheme_of(self, peer: str, own: str, forwarded_proto: str) -> str:
        """`http` or `https`, as the nearest proxy says it in `X-Forwarded-Proto`; else our `own`."""
        said = forwarded_proto.rpartition(",")[2].strip().lower()
        return said if said in {"http", "https"} and self.trusts(peer) else own


def address_of(peer: IAddress | None) -> str:
    """The address of a connection's peer, as text."""
    return getattr(peer, "host", NO_ADDRESS)


def _without_port(text: str) -> str:
    """`192.0.2.1` of `192.0.2.1:80`, `2001:db8::1` of `[2001:db8::1]:80` (Azure's gateway writes so)."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
