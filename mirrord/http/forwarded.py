"""TrustedProxies: the address and scheme of a client behind the operator's proxies.

`X-Forwarded-For` grows to the right: each proxy appends the address of its own client. A client can start it
with any address, so it is read from the right, as long as the address that wrote the next entry is trusted.
The first address that is not trusted is the client's.
"""

from ipaddress import IPv4Network, IPv6Network

import attrs
from twisted.internet.interfaces import IAddress

from mirrord.config.addresses import parse_address

NO_ADDRESS = "unix"
"""Stands for the address of a client on a Unix socket; the socket's mode decides who may use it."""


@attrs.frozen
class TrustedProxies:
    """The networks of the proxies whose headers about the client are used."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def trusts(self, address: str) -> bool:
        """Return whether a peer is such a proxy; on a Unix socket it is if any are configured."""
        if not self.networks or address == NO_ADDRESS:
            return bool(self.networks)
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self.networks)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Return the client's address, given the address of the peer and `X-Forwarded-For`."""
        address = peer
        for entry in reversed(forwarded_for.split(",")):
            if not self.trusts(address):
                break
            parsed = parse_address(_without_port(entry.strip()))
            if parsed is None:
                break
            address = str(parsed)
        return address

    def scheme_of(self, peer: str, own: str, forwarded_proto: str) -> str:
        """Return `http` or `https` from the nearest proxy's `X-Forwarded-Proto`; without it, `own`."""
        scheme = forwarded_proto.rpartition(",")[2].strip().lower()
        return scheme if scheme in {"http", "https"} and self.trusts(peer) else own


def address_of(peer: IAddress | None) -> str:
    """Return the address of a connection's peer as text."""
    return getattr(peer, "host", NO_ADDRESS)


def _without_port(text: str) -> str:
    """Return `192.0.2.1` for `192.0.2.1:80`, `2001:db8::1` for `[2001:db8::1]:80` (as Azure's gateway)."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
