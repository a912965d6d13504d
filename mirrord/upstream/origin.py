"""Origins: scheme, host and port (RFC 6454), which credentials do not leave."""

from typing import Self
from urllib.parse import SplitResult, urljoin, urlsplit

import attrs

from mirrord.oci.errors import UpstreamRefused

DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_URL_LENGTH = 16 * 1024
"""Signed URLs of some stores are up to 4 KiB long."""


@attrs.frozen(cache_hash=True)
class WebOrigin:
    """The origin of a URL; the host is in lowercase and without the brackets of IPv6."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin of an absolute http or https URL.

        Raises:
            UpstreamRefused: It is not one, or it has a user, which no registry needs.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UpstreamRefused("the upstream sent an invalid URL") from None
        if len(url) > _MAX_URL_LENGTH or not _is_plain(url) or not _is_absolute(parts):
            raise UpstreamRefused("the upstream sent a URL that is not plain http or https")
        host = parts.hostname or ""
        return cls(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port)

    @property
    def is_secure(self) -> bool:
        """Whether requests to it use TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}".removesuffix(f":{DEFAULT_PORTS[self.scheme]}")


def resolve(base: str, reference: str) -> str:
    """Resolve a Location or the target of a Link against `base`, without its fragment.

    Raises:
        UpstreamRefused: The result is not an http or https URL.
    """
    try:
        url = urljoin(base, reference.strip()).partition("#")[0]
    except ValueError:
        raise UpstreamRefused("the upstream sent an invalid URL") from None
    WebOrigin.of(url)
    return url


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url


def _is_absolute(parts: SplitResult) -> bool:
    return parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and "@" not in parts.netloc
