"""`mirrord self-signed`: a certificate that nobody else vouches for."""

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

import click
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mirrord.cli.certificate import make_pair
from mirrord.cli.exit_status import CommandError

_USER = "mirrord"
_FOLDER_MODE = 0o755
_KEY_MODE = 0o600
_CERTIFICATE_MODE = 0o644

_TRUST = """\
In {config}:

  [[listen]]
  endpoint    = "tcp:5000"
  certificate = "{certificate}"
  key         = "{key}"

Clients have to trust {certificate}:

  docker      /etc/docker/certs.d/{name}:5000/ca.crt
  podman      /etc/containers/certs.d/{name}:5000/ca.crt
  containerd  any file, named by  ca = "…"  in hosts.toml
  all others  /usr/local/share/ca-certificates/mirrord.crt, then update-ca-certificates

`mirrord client CLIENT --mirror https://{name}:5000 --ca {certificate}` makes these files."""


@click.command("self-signed")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="/etc/mirrord/tls",
    show_default=True,
    help="The folder for fullchain.pem and privkey.pem.",
)
@click.option(
    "--days", type=click.IntRange(1, 36_500), default=3650, show_default=True, help="How long it holds."
)
@click.option("--force", is_flag=True, help="Replace a pair that is there.")
def self_signed(names: tuple[str, ...], out: Path, days: int, *, force: bool) -> None:
    """Make a certificate for hosts that trust no public one.

    NAME is a host name, a wildcard such as *.lan, or an IP address, as clients write it; one certificate is
    for all of them. The key (P-256) can be read by the service, if it is installed, else by you alone.
    """
    try:
        certificate, key = make_pair(names, days)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    paths = out / "fullchain.pem", out / "privkey.pem"
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise CommandError(f"{' and '.join(there)} exist already; --force replaces them")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        out.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        # The key first: a daemon that sees a new certificate looks for its key at once.
        _write(paths[1], secret, _KEY_MODE)
        _write(paths[0], certificate.public_bytes(Encoding.PEM), _CERTIFICATE_MODE)
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}") from None
    click.echo(f"{paths[0]} and {paths[1]} are written.\n")
    config = "/etc/mirrord/mirrord.toml"
    click.echo(_TRUST.format(config=config, certificate=paths[0], key=paths[1], name=_authority(names)))


def _authority(names: Sequence[str]) -> str:
    """The mirror's host in a URL: its first name that is one host's, an address of IPv6 in brackets."""
    name = next((name for name in names if "*" not in name), names[0]).strip("[]")
    return f"[{name}]" if ":" in name else name


def _write(path: Path, content: bytes, mode: int) -> None:
    """A new file in place of an old one: never for a moment with other permissions, or with half of it."""
    fresh = path.with_name(f".{path.name}-new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        owner = _service_user()
        if owner is not None:
            os.fchown(fd, owner.pw_uid, owner.pw_gid)
    fresh.replace(path)


def _service_user() -> pwd.struct_passwd | None:
    """Who runs the service, where it is installed and we may give files away."""
    try:
        return pwd.getpwnam(_USER) if os.geteuid() == 0 else None
    except KeyError:
        return None
