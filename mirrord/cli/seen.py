"""How clients see this mirror: the URL of a listener, from outside."""

import socket
from pathlib import Path

from cryptography.x509 import Certificate, DNSName, SubjectAlternativeName, load_pem_x509_certificate
from cryptography.x509.extensions import ExtensionNotFound

from mirrord.cli.address import Address
from mirrord.cli.daemon import Daemon
from mirrord.cli.statuses import Failed
from mirrord.config import ListenConfig

_ELSEWHERE = ("192.0.2.1", 9)
"""An address that nobody has (RFC 5737): to mean to send there shows our own, and nothing is sent."""


def client_url(listener: ListenConfig, daemon: Daemon) -> str:
    """Where clients reach a listener: what the daemon says of it, else what its endpoint and certificate say.

    Raises:
        Failed: Neither says.
    """
    try:
        address = Address.parse(listener.endpoint)
    except ValueError:
        address = None
    if address is None or address.path or not address.port:
        return _told(listener, daemon)
    host = address.host
    if _is_anywhere(listener.endpoint):
        host = own_address()
    if not listener.pairs:
        return f"http://{_authority(host, address.port)}"
    named = _first_name(listener.pairs[0].certificate)
    return f"https://{_authority(named or host, address.port)}"


def own_address() -> str:
    """The address of this host from which it reaches others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def names_of(certificate: Certificate) -> list[str]:
    """The host names and addresses that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def _told(listener: ListenConfig, daemon: Daemon) -> str:
    try:
        listeners = daemon.get("/status").get("listeners", [])
    except Failed:
        listeners = []
    for told in listeners:
        if told.get("endpoint") == listener.endpoint and told.get("url"):
            return str(told["url"])
    raise Failed(f"{listener.endpoint} does not say where clients reach it; say so by --mirror URL")


def _is_anywhere(endpoint: str) -> bool:
    return "interface=" not in endpoint or "interface=0.0.0.0" in endpoint or endpoint.endswith("=\\:\\:")


def _first_name(path: Path) -> str | None:
    """The first host name of a certificate that is no wildcard."""
    try:
        certificate = load_pem_x509_certificate(path.read_bytes())
        extension = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except (OSError, ValueError, ExtensionNotFound):
        return None
    names = extension.value.get_values_for_type(DNSName)
    return next((name for name in names if "*" not in name), None)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
