"""The origin of a request to the admin listener: commands are accepted from this host only.

There are no passwords here, so a web page that the operator has open must not be able to send commands. A
page whose own name resolves to 127.0.0.1 (DNS rebinding) is recognized by its Host header. A form or a script
of another origin cannot send the header that every change requires without a preflight, which gets no CORS
headers.
"""

import re

from twisted.internet.address import IPv4Address as TcpAddress
from twisted.internet.address import IPv6Address as Tcp6Address
from twisted.internet.address import UNIXAddress

from mirrord.config.addresses import parse_address
from mirrord.http.request import READING, MirrorRequest
from mirrord.oci.errors import Denied

_COMMAND = b"Mirrord-Command"
_PORT = re.compile(r":[0-9]*\Z")


def require_local_origin(request: MirrorRequest) -> None:
    """Check that a command comes from this host, and not from a web page.

    Raises:
        Denied: The peer is another host, or a web page may have sent this.
    """
    match request.channel.transport.getPeer():
        case UNIXAddress():
            pass
        case TcpAddress(host=host) | Tcp6Address(host=host) if _is_loopback(host):
            refuse_web_pages(request)
        case _:
            raise Denied("commands are accepted from this host only")
    if request.method not in READING and request.header(_COMMAND) != b"1":
        raise Denied("a command that changes something requires the header Mirrord-Command: 1")


def refuse_web_pages(request: MirrorRequest) -> None:
    """Refuse a request from this host to a name that a web page may have given it (DNS rebinding).

    Raises:
        Denied: The peer is this host, and Host is neither localhost nor an address.
    """
    host = getattr(request.channel.transport.getPeer(), "host", None)
    if host is not None and _is_loopback(host) and not _is_address(request.header(b"Host") or b""):
        raise Denied("the Host header must be localhost or an IP address")


def _is_loopback(host: str) -> bool:
    address = parse_address(host.partition("%")[0])
    return address is not None and address.is_loopback


def _is_address(header: bytes) -> bool:
    """Return whether a Host header needs no DNS, which others could control: localhost, or an address."""
    host = _PORT.sub("", header.decode("latin-1")).lower()
    return host == "localhost" or parse_address(host.removeprefix("[").removesuffix("]")) is not None
