"""Asking: who sent a request, as far as its head and its connection tell.

An address decides what may be done (`network:`, and pushing from the own host where there is no
`[access]`), so one that may be another's counts for nothing: a proxy on this host that nobody named in
`trusted_proxies` would make the whole world local, and so would a page in a browser on this host.
"""

from mirrord.access.rules import ClientIdentity
from mirrord.config.pem import common_names, dns_names
from mirrord.http.forwarded import NO_ADDRESS, address_of
from mirrord.http.request import MirrorRequest

_FROM_ELSEWHERE = (b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"Via", b"Origin")
"""What a proxy writes, or a browser for the page that made it ask, and no client of registries."""

_LOOPBACK = "127.0.0.1"
"""Whoever may use our Unix socket is on this host."""


def identify(request: MirrorRequest) -> ClientIdentity:
    """Return what a request presents about its client; its body need not have arrived yet."""
    authorization = request.header(b"Authorization")
    return ClientIdentity(
        origin=origin_of(request),
        address=_address(request),
        certificates=_certificate_names(request),
        authorization=None if authorization is None else authorization.decode("latin-1"),
    )


def origin_of(request: MirrorRequest) -> str:
    """Scheme and host at which the client found us."""
    host = (request.header(b"Host") or b"localhost").decode("latin-1")
    return f"{request.scheme}://{host}"


def _address(request: MirrorRequest) -> str:
    if _is_vouched_for(request):
        return request.client_address
    if any(request.requestHeaders.hasHeader(name) for name in _FROM_ELSEWHERE):
        return ""
    return _LOOPBACK if request.client_address == NO_ADDRESS else request.client_address


def _is_vouched_for(request: MirrorRequest) -> bool:
    """Whether a proxy that we trust has said who the client is."""
    return request.client_address != address_of(request.channel.getPeer())


def _certificate_names(request: MirrorRequest) -> frozenset[str]:
    """The common names and DNS names of the client's certificate; a proxy's is not the client's."""
    shown = getattr(request.channel.transport, "getPeerCertificate", None)
    certificate = None if shown is None or _is_vouched_for(request) else shown()
    return (
        frozenset() if certificate is None else frozenset(common_names(certificate) + dns_names(certificate))
    )
