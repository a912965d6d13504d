"""Origins: scheme, host and port (RFC 6454), the border that credentials do not cross."""

import socket
from ipaddress import IPv4Address
from typing import Self
from urllib.parse import SplitResult, urljoin, urlsplit

import attrs

from mirrord.config.addresses import parse_address
from mirrord.oci.errors import UpstreamRefused

_PORTS = {"http": 80, "https": 443}

_MAX_URL_LENGTH = 16 * 1024
"""Signed URLs of some stores are up to 4 KiB long; this is where we stop believing."""


@attrs.frozen(cache_hash=True)
class WebOrigin:
    """Where a URL leads; the host is lowercase and without the brackets of IPv6."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """The origin of an absolute http or https URL.

        Raises:
            UpstreamRefused: It is none, or it names a user, which no registry has to.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UpstreamRefused("the upstream named a URL that cannot be read") from None
        if len(url) > _MAX_URL_LENGTH or not _is_plain(url) or not _is_absolute(parts):
            raise UpstreamRefused("the upstream named a URL that is no plain http or https one")
        host = parts.hostname or ""
        return cls(parts.scheme, host, _PORTS[parts.scheme] if port is None else port)

    @property
    def is_secure(self) -> bool:
        """Whether what is said here is said over TLS."""
        return self.scheme == "https"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


def resolve(base: str, reference: str) -> str:
    """The URL that `reference` (a Location, the target of a Link) means when read at `base`; no fragment.

    Raises:
        UpstreamRefused: It means nothing.
    """
    try:
        url = urljoin(base, reference.strip()).partition("#")[0]
    except ValueError:
        raise UpstreamRefused("the upstream named a URL that cannot be read") from None
    WebOrigin.of(url)
    return url


def may_receive_account(realm: WebOrigin, *, home: WebOrigin, configured: WebOrigin | None) -> bool:
    """Whether a token service may receive the account of the upstream at `home`.

    A realm is a URL that the upstream names, and whoever can respond in its place can name any
    (GHSA-3p65-76g6-3w7r). So the account is sent to the upstream's own host and to the host of the realm
    that the operator configured, over TLS; without TLS to the upstream's own host only, and only if the
    upstream's own URL has none either.
    """
    if not realm.is_secure:
        return not home.is_secure and realm.host == home.host
    return realm.host == home.host or (configured is not None and realm.host == configured.host)


def is_private(host: str) -> bool:
    """Whether `host` is the literal of an address that the public internet does not reach.

    A name is never one: what it resolves to is judged when the connection stands (address_policy.py). The
    old spellings that getaddrinfo takes, `127.1` or `2130706433`, are read as it reads them.
    """
    address = parse_address(host.partition("%")[0])
    if address is None:
        try:
            address = IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    return not address.is_global or address.is_multicast


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url


def _is_absolute(parts: SplitResult) -> bool:
    return parts.scheme in _PORTS and bool(parts.hostname) and "@" not in parts.netloc
