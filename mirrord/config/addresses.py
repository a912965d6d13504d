"""IP addresses as text: one parser for clients' peers, forwarded headers and the hosts of URLs."""

from ipaddress import IPv4Address, IPv6Address, ip_address


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address; None if it is none.

    An IPv4 address that arrived over an IPv6 socket (`::ffff:192.0.2.1`, RFC 4291, section 2.5.5.2) is
    returned as the IPv4 address, so that every rule about IPv4 networks applies to it.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
