"""Addresses as text: IP addresses, paths of Unix sockets, and descriptions of Twisted server endpoints.

One parser of IP addresses serves clients' peers, forwarded headers and the hosts of URLs.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Self

import attrs

_SEPARATOR = re.compile(r"(?<!\\):")
_ESCAPE = re.compile(r"\\(.)")
_SPECIAL = re.compile(r"[:\\]")

_MAX_SOCKET_PATH = 107
"""The longest path of a Unix socket in bytes: `sun_path` of unix(7) is 108 bytes with its final zero."""


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


@lru_cache(maxsize=1024)
def client_network(text: str) -> str:
    """Return the network by which a client with this address is counted.

    That is an IPv4 address, but the /64 of an IPv6 one: each client has 2^64 of these (RFC 6177). Text that
    is no address is returned as it is.
    """
    address = parse_address(text)
    if isinstance(address, IPv6Address):
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return text if address is None else str(address)


def unix_endpoint(path: Path) -> str:
    """Return the description of a Unix socket."""
    address = _SPECIAL.sub(r"\\\g<0>", str(path))
    return f"unix:address={address}" if "=" in address else f"unix:{address}"


def check_socket_path(path: Path) -> None:
    """Check that a Unix socket can have this path.

    Raises:
        ValueError: It is too long.
    """
    length = len(os.fsencode(path))
    if length > _MAX_SOCKET_PATH:
        raise ValueError(
            f"the path of a Unix socket must not exceed {_MAX_SOCKET_PATH} bytes; this has {length}: {path}"
        )


@attrs.frozen
class EndpointDescription:
    """A description, such as `tcp:5000:interface=127.0.0.1`, split into kind and arguments; not validated."""

    kind: str
    positional: tuple[str, ...] = ()
    named: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split a description as Twisted does: at colons without a backslash."""
        kind, *arguments = _SEPARATOR.split(text)
        unescaped = [_ESCAPE.sub(r"\1", argument) for argument in arguments]
        return cls(
            kind,
            tuple(argument for argument in unescaped if "=" not in argument),
            dict(argument.split("=", 1) for argument in unescaped if "=" in argument),
        )

    def argument(self, name: str, position: int) -> str:
        """Return an argument given by name or by position; "" if it is given by neither."""
        return self.named.get(name, "".join(self.positional[position : position + 1]))

    @property
    def socket_path(self) -> Path | None:
        """The path of the Unix socket that it creates; None if it creates none."""
        path = self.argument("address", 0)
        return Path(path) if self.kind == "unix" and path else None
