"""`mirrord self-signed`: a TLS certificate without a certificate authority.

The certificate is its own root and no authority (CA:FALSE): a client that trusts it trusts one key for
these names, and a stolen key can sign for no others.
"""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mirrord.cli.exit_status import CommandError
from mirrord.cli.files import replace_file
from mirrord.cli.global_options import SERVICE_CONFIG
from mirrord.cli.ownership import Owner
from mirrord.cli.systemd_units import service_user

_KEY_MODE = 0o600
_CERTIFICATE_MODE = 0o644

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_MAX_HOST_LENGTH = 253
_MAX_COMMON_NAME_LENGTH = 64
_CLOCK_SKEW = timedelta(hours=1)
"""A new certificate is valid for clients whose clock is behind by this much."""

_INSTRUCTIONS = """\
In {config}:

  [[listen]]
  endpoint    = "tcp:5000"
  certificate = "{certificate}"
  key         = "{key}"

Copy {certificate} to each client:

  docker      /etc/docker/certs.d/{name}:5000/ca.crt
  podman      /etc/containers/certs.d/{name}:5000/ca.crt
  containerd  any file, named by  ca = "…"  in hosts.toml
  all others  /usr/local/share/ca-certificates/mirrord.crt, then update-ca-certificates

`mirrord client CLIENT --mirror https://{name}:5000 --ca {certificate}` prints or writes these files."""


@click.command("self-signed")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="/etc/mirrord/tls",
    show_default=True,
    help="Directory for fullchain.pem and privkey.pem.",
)
@click.option(
    "--days", type=click.IntRange(1, 36_500), default=3650, show_default=True, help="Validity in days."
)
@click.option("--force", is_flag=True, help="Replace existing files.")
def self_signed(names: tuple[str, ...], out: Path, days: int, *, force: bool) -> None:
    """Create a self-signed TLS certificate.

    NAME is a host name, a wildcard such as *.lan, or an IP address, as used by clients; the certificate is
    valid for all of them. The key (P-256) is readable by the service's user if that exists, else by you; in
    a directory that belongs to another user, by that user.
    """
    try:
        certificate, key = make_pair(names, days)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    with Owner.of(out).acting():
        paths = _write_pair(certificate, key, out, is_forced=force)
    click.echo(f"Wrote {paths[0]} and {paths[1]}.\n")
    click.echo(
        _INSTRUCTIONS.format(config=SERVICE_CONFIG, certificate=paths[0], key=paths[1], name=_url_host(names))
    )


def _write_pair(
    certificate: x509.Certificate, key: EllipticCurvePrivateKey, out: Path, *, is_forced: bool
) -> tuple[Path, Path]:
    """Write a certificate and its key, and return their paths."""
    paths = out / "fullchain.pem", out / "privkey.pem"
    existing = [str(path) for path in paths if path.exists()]
    if existing and not is_forced:
        raise CommandError(f"already there: {' and '.join(existing)}; use --force to replace")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    owner = service_user() if os.geteuid() == 0 else None
    try:
        # The key first: the daemon reads both as soon as it sees a new certificate.
        replace_file(paths[1], secret, mode=_KEY_MODE, owner=owner)
        replace_file(paths[0], certificate.public_bytes(Encoding.PEM), mode=_CERTIFICATE_MODE, owner=owner)
    except OSError as error:
        raise CommandError(f"cannot write {error.filename or out}: {error.strerror}") from None
    return paths


def make_pair(names: Sequence[str], days: int) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """Return a certificate for host names and IP addresses, valid for `days` from now, and its key.

    Raises:
        ValueError: A name is neither a host name nor an IP address.
    """
    alternatives = [_parse_name(name.lower()) for name in names]
    key = generate_private_key(SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_MAX_COMMON_NAME_LENGTH])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return certificate, key


def _parse_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name.strip("[]")))
    except ValueError:
        pass
    if _HOST.fullmatch(name) is None or len(name) > _MAX_HOST_LENGTH:
        raise ValueError(f"{name} is neither a host name nor an IP address; give no port and no https://")
    return x509.DNSName(name)


def _url_host(names: Sequence[str]) -> str:
    """Return the first name that is not a wildcard, as the host of a URL."""
    name = next((name for name in names if "*" not in name), names[0]).strip("[]")
    return f"[{name}]" if ":" in name else name
