"""The gate: who may give a mirror orders. There are no passwords here; being on this host is the right to.

So a web page that the operator looks at must not borrow that right. A page whose own name resolves to
127.0.0.1 (DNS rebinding) gives itself away by the Host it asks for; and a form or a script of another
origin cannot send the header that every change needs, unless we answered its preflight, which we never do.
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


def refuse_strangers(request: MirrorRequest) -> None:
    """Let pass who is on this host and means us.

    Raises:
        Denied: The peer is another host, or a web page may have sent this.
    """
    match request.channel.transport.getPeer():
        case UNIXAddress():
            pass
        case TcpAddress(host=host) | Tcp6Address(host=host) if _is_loopback(host):
            refuse_pages(request)
        case _:
            raise Denied("commands are taken from this host alone")
    if request.method not in READING and request.header(_COMMAND) != b"1":
        raise Denied("a command that changes something needs the header Mirrord-Command: 1")


def refuse_pages(request: MirrorRequest) -> None:
    """Let no web page on this host ask under a name of its own.

    Raises:
        Denied: The peer is this host, and the name that it asks for may be a stranger's.
    """
    host = getattr(request.channel.transport.getPeer(), "host", None)
    if host is not None and _is_loopback(host) and not _is_address(request.header(b"Host") or b""):
        raise Denied("this is told under a loopback name or an address alone")


def _is_loopback(host: str) -> bool:
    address = parse_address(host.partition("%")[0])
    return address is not None and address.is_loopback


def _is_address(header: bytes) -> bool:
    """Whether a Host names no host that a stranger's DNS could: localhost, or an address."""
    host = _PORT.sub("", header.decode("latin-1")).lower()
    return host == "localhost" or parse_address(host.removeprefix("[").removesuffix("]")) is not None
