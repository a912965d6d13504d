"""Client identity: address, credentials and certificate of a client, from the request head and connection.

Rules grant rights by address (`network:`, and without `[access]` pushing from this host), so an address that
may belong to someone else must not count. A proxy on this host that is not in `trusted_proxies` would make
the whole world local, and so would a web page in a browser on this host.
"""

from mirrord.access.rules import ClientIdentity
from mirrord.config.pem import common_names, dns_names
from mirrord.http.forwarded import NO_ADDRESS, address_of
from mirrord.http.request import MirrorRequest

_FORWARDING_HEADERS = (b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"Via", b"Origin")
"""Headers that proxies add, or browsers for their pages, but that clients of registries never send."""

_LOOPBACK = "127.0.0.1"
"""The address of clients of a Unix socket: they are on this host."""


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
    if _is_forwarded(request):
        return request.client_address
    if any(request.requestHeaders.hasHeader(name) for name in _FORWARDING_HEADERS):
        return ""
    return _LOOPBACK if request.client_address == NO_ADDRESS else request.client_address


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
