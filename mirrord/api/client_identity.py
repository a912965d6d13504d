"""Client identity: address, credentials and certificate of a client, from the request head and connection.

Rules grant rights by address (`network:`, and `push_from_loopback`), so an address that may belong to
someone else must not count. A proxy on this host that is not in `trusted_proxies` would make the whole
world local, and so would a web page in a browser on this host.

Only the peer of a connection can be local. A client that a trusted proxy names as 127.0.0.1 is local to the
proxy; one that it does not name could be anyone, although the connection comes from this host; and behind a
Unix socket there may be a proxy too. None of them has a loopback address.
"""

from mirrord.access.rules import ClientIdentity
from mirrord.config.addresses import parse_address
from mirrord.config.pem import common_names, dns_names
from mirrord.http.forwarded import NO_ADDRESS, TrustedProxies, address_of
from mirrord.http.request import MirrorRequest

_FORWARDING_HEADERS = (
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Forwarded-Port",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Server",
    b"Forwarded",
    b"X-Real-IP",
    b"X-Client-IP",
    b"True-Client-IP",
    b"CF-Connecting-IP",
    b"Via",
    b"Origin",
)
"""Headers that proxies add, or browsers for their pages, but that clients of registries never send."""

_PROXY_VERSION = b"HTTP/1.0"
"""The version that most nginx proxies speak by default, adding no header, but no client of a registry."""


def identify(request: MirrorRequest) -> ClientIdentity:
    """Return the identity that a request presents; its body need not have arrived yet."""
    authorization = request.header(b"Authorization")
    host = (request.header(b"Host") or b"localhost").decode("latin-1")
    return ClientIdentity(
        origin=f"{request.scheme}://{host}",
        address=_address(request),
        certificates=_certificate_names(request),
        authorization=None if authorization is None else authorization.decode("latin-1"),
    )


def _address(request: MirrorRequest) -> str:
    """Return the client's address; "" where it is unknown, or only appears to be local."""
    address = request.client_address
    if address == NO_ADDRESS or (_is_from_trusted_proxy(request) and _is_loopback(address)):
        return ""
    return "" if _may_be_forwarded(request) and not _is_forwarded(request) else address


def _may_be_forwarded(request: MirrorRequest) -> bool:
    """Return whether a request may come from a proxy, or from a web page."""
    has_header = any(map(request.requestHeaders.hasHeader, _FORWARDING_HEADERS))
    return has_header or request.clientproto == _PROXY_VERSION


def _is_from_trusted_proxy(request: MirrorRequest) -> bool:
    """Return whether the connection is one of a trusted proxy, whatever it reports about its client."""
    proxies: TrustedProxies = request.channel.site.proxies
    return request.channel.site.is_proxied or proxies.trusts(address_of(request.channel.getPeer()))


def _is_loopback(address: str) -> bool:
    parsed = parse_address(address)
    return parsed is not None and parsed.is_loopback


def _is_forwarded(request: MirrorRequest) -> bool:
    """Return whether a trusted proxy has named the client's address."""
    return request.client_address != address_of(request.channel.getPeer())


def _certificate_names(request: MirrorRequest) -> frozenset[str]:
    """Return the common names and DNS names of the client's certificate; a proxy's is not the client's."""
    get_certificate = getattr(request.channel.transport, "getPeerCertificate", None)
    certificate = None if get_certificate is None or _is_forwarded(request) else get_certificate()
    return (
        frozenset() if certificate is None else frozenset(common_names(certificate) + dns_names(certificate))
    )
