"""How clients see this mirror: the URL of a listener, from outside."""

import socket
from pathlib import Path

import attrs

from mirrord.cli.addresses import Address
from mirrord.cli.admin_client import AdminClient
from mirrord.cli.exit_status import CommandError
from mirrord.config.config import ListenConfig
from mirrord.config.pem import dns_names, read_certificates

_ELSEWHERE = ("192.0.2.1", 9)
"""An address that nobody has (RFC 5737): to mean to send there shows our own, and nothing is sent."""


def client_url(listener: ListenConfig, daemon: AdminClient) -> str:
    """Where clients reach a listener: by the name of its certificate, if it has one, else by its address.

    Raises:
        CommandError: Nobody says where it is.
    """
    address = address_of(listener, daemon)
    if address is None or address.path or not address.port:
        raise CommandError(f"{listener.endpoint} does not say where clients reach it; say so by --mirror URL")
    if address.is_everywhere:
        address = attrs.evolve(address, host=own_address())
    if not listener.pairs:
        return f"http://{address.authority}"
    named = _first_name(listener.pairs[0].certificate)
    return f"https://{address.authority if named is None else f'{named}:{address.port}'}"


def address_of(listener: ListenConfig, daemon: AdminClient) -> Address | None:
    """Where a listener is: what its endpoint says; of one that systemd holds, what the daemon says."""
    try:
        return Address.parse(listener.endpoint)
    except ValueError:
        pass
    try:
        listeners = daemon.get("/status").get("listeners", [])
        said = next(one["address"] for one in listeners if one["endpoint"] == listener.endpoint)
        return Address.parse(f"http://{said}")
    except (CommandError, LookupError, StopIteration, ValueError):
        return None


def own_address() -> str:
    """The address of this host from which it reaches others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _first_name(path: Path) -> str | None:
    """The first host name of a certificate that is no wildcard."""
    try:
        names = dns_names(read_certificates(path)[0])
    except (OSError, ValueError):
        return None
    return next((name for name in names if "*" not in name), None)
