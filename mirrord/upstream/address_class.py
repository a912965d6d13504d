"""AddressClass: how far an address reaches, from this host to the public internet.

An IPv6 address may be a way to write an IPv4 one, which a translator on the path or the kernel connects to:
IPv4-mapped (RFC 4291), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056) and Teredo (RFC 4380). Such an address
reaches as far as the IPv4 address inside it.
"""

import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mirrord.config.addresses import parse_address

_THIS_HOST = IPv4Network("0.0.0.0/8")
_SHARED = IPv4Network("100.64.0.0/10")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_IPV4_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")

_NAT64_FORMS = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
"""The octets of the IPv4 address after a prefix of 48, 56, 64 or 96 bits; all after them are zero."""


class AddressClass(IntEnum):
    """The reach of an address; a greater class reaches further.

    Connecting to an unspecified address connects to this host, so it is of the class of loopback. Shared
    addresses (RFC 6598) are those between a provider and its customers, of overlay networks and of metadata
    services in some clouds. Private is whatever else is not reachable from the public internet.
    """

    LOOPBACK = 0
    LINK_LOCAL = 1
    SHARED = 2
    PRIVATE = 3
    PUBLIC = 4

    @classmethod
    def of_host(cls, host: str) -> "AddressClass | None":
        """Return the class of the literal of an address, or of a name of loopback; None for other names.

        The old spellings that getaddrinfo accepts, `127.1` or `2130706433`, are parsed as it parses them.
        """
        if host == "localhost" or host.endswith(".localhost"):
            return cls.LOOPBACK
        address = parse_address(host.partition("%")[0])
        if address is None:
            try:
                address = IPv4Address(socket.inet_aton(host))
            except (OSError, ValueError):
                return None
        return cls.of(address)

    @classmethod
    def of(cls, address: IPv4Address | IPv6Address) -> "AddressClass":
        """Return the class of an address."""
        if isinstance(address, IPv6Address):
            address = _embedded_ipv4(address) or address
        is_ipv4 = isinstance(address, IPv4Address)
        if address.is_loopback or address.is_unspecified or address in _THIS_HOST:
            return cls.LOOPBACK
        if address.is_link_local:
            return cls.LINK_LOCAL
        if address in _SHARED:
            return cls.SHARED
        is_public = address.is_global and not address.is_multicast and (is_ipv4 or address in _GLOBAL_UNICAST)
        return cls.PUBLIC if is_public else cls.PRIVATE

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for; None if it stands for itself."""
    if address.ipv4_mapped is not None or address.sixtofour is not None:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64_LOCAL:
        return _translated(address.packed)
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        return IPv4Address(address.packed[-4:])
    return None


def _translated(packed: bytes) -> IPv4Address:
    """Return the IPv4 address behind the local NAT64 prefix, whose length only its site knows."""
    octets = next(form for form in _NAT64_FORMS if not any(packed[form[-1] + 1 :]))
    return IPv4Address(bytes(packed[octet] for octet in octets))
