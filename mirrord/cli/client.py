"""`mirrord client`: the configuration files of a client of this mirror, printed or installed on this host."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import click
from cryptography.hazmat.primitives.serialization import Encoding

from mirrord.cli.addresses import outgoing_address
from mirrord.cli.admin_client import AdminClient
from mirrord.cli.configuration import read_config
from mirrord.cli.exit_status import CommandError
from mirrord.cli.files import replace_file
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.client_config import RECIPES, ClientFile, MirrorAddress, Registry
from mirrord.config.config import ListenConfig
from mirrord.config.pem import dns_names, read_certificates

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_URL = re.compile(r"(https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)/?")
"""Characters that need no escape in JSON, TOML, YAML or a path, as the URL is written into all of them."""

_MODE = 0o644


def _parse_url(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Return scheme, host and port; a path would depend on the client."""
    if text is None:
        return None
    url = _URL.fullmatch(text)
    if url is None:
        raise click.BadParameter("expected http://HOST:PORT or https://HOST:PORT")
    return url[1]


def _read_ca(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> str:
    """Return only the certificates of a file: it may hold a key, and the output is world-readable."""
    if file is None:
        return ""
    try:
        return "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in read_certificates(file))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("client", type=click.Choice(list(RECIPES)))
@click.option("--mirror", metavar="URL", callback=_parse_url, help="URL of the mirror for the client.")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_ca,
    help="Certificate that the client has to trust, if the mirror's is not publicly trusted.",
)
@click.option("--write", is_flag=True, help="Write the files on this host instead of printing them.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    help="With --write: root directory to write below.",
)
@with_global_options
def client(
    options: GlobalOptions, client: str, mirror: str | None, ca: str, *, write: bool, root: Path
) -> None:
    """Print or write the client configuration for this mirror.

    The files contain the address of the first listener and all upstreams. --write saves a copy of each file
    that it changes, and keeps other keys of daemon.json.
    """
    config = read_config(options)
    listener = config.listen[0]
    registries = tuple(Registry(one.name, one.prefix) for one in config.upstream)
    url = mirror or _listener_url(listener, AdminClient(options.admin()))
    recipe = RECIPES[client](MirrorAddress(url=url, registries=registries, default=listener.upstream, ca=ca))
    for file in recipe.files:
        if write:
            click.echo(install_client_file(file, root))
        else:
            click.echo(f"# {file.path}\n{file.text}")
    click.echo(recipe.instructions)
    if not write and urlsplit(url).hostname in _LOOPBACK:
        click.echo(f"mirrord: {url} is reachable from this host only; for other hosts use --mirror", err=True)


def _listener_url(listener: ListenConfig, daemon: AdminClient) -> str:
    """Return the URL of a listener for clients, with the host name of its certificate if it has one.

    Raises:
        CommandError: The address of the listener is unknown.
    """
    address = daemon.listener_address(listener.endpoint)
    if address is None or address.path or not address.port:
        raise CommandError(f"the URL of the listener {listener.endpoint} is unknown; give it by --mirror URL")
    if address.is_wildcard:
        address = attrs.evolve(address, host=outgoing_address())
    if not listener.pairs:
        return f"http://{address.authority}"
    name = _certificate_host(listener.pairs[0].certificate)
    return f"https://{address.authority if name is None else f'{name}:{address.port}'}"


def _certificate_host(path: Path) -> str | None:
    """Return the first host name of a certificate that is not a wildcard."""
    try:
        names = dns_names(read_certificates(path)[0])
    except (OSError, ValueError):
        return None
    return next((name for name in names if "*" not in name), None)


def install_client_file(file: ClientFile, root: Path) -> str:
    """Write a file below `root` and return a line that reports the change.

    A JSON file keeps its other keys. Previous content that differs is kept beside the file as `.bak`.
    Installing the same file again changes nothing.

    Raises:
        CommandError: The file cannot be written, or its present content cannot be merged.
    """
    path = _resolve(root, file.path)
    try:
        old = path.read_text("utf-8") if path.exists() else None
        new = _merge(old, file, path)
        if old == new:
            return f"{path} is up to date"
        saved = "" if old is None else f"; the previous version is {_back_up(path).name}"
        mode = path.stat().st_mode & 0o7777 if path.exists() else _MODE
        replace_file(path, new.encode("utf-8"), mode=mode)
    except PermissionError:
        raise CommandError(f"cannot write {path}: permission denied; try again with sudo") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot write {path}: {error}") from None
    return f"wrote {path}{saved}"


def _resolve(root: Path, path: str) -> Path:
    """Return the file below `root`, with links resolved: they are kept, and their targets written."""
    base = root.resolve()
    target = (base / path.lstrip("/")).resolve()
    if not target.is_relative_to(base):
        raise CommandError(f"{path} is a link to a file outside of {root}")
    return target


def _merge(old: str | None, file: ClientFile, path: Path) -> str:
    """Return the new content; in a JSON file, our entries are prepended to its lists."""
    if not file.path.endswith(".json") or old is None or not old.strip():
        return file.text
    document, ours = _parse(old, path), _parse(file.text, path)
    for key, entries in ours.items():
        present = document.get(key, [])
        if not isinstance(present, list):
            raise CommandError(f"cannot change {path}: {key} is not a list")
        missing = [entry for entry in entries if entry not in present]
        if missing:
            document[key] = missing + present
    if document == _parse(old, path):
        return old
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"cannot change {path}: invalid JSON: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(f"cannot change {path}: not a JSON object")
    return document


def _back_up(path: Path) -> Path:
    """Copy a file to the first unused name."""
    number = 1
    copy = path.with_name(f"{path.name}.bak")
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.bak{number}")
    shutil.copy2(path, copy)
    return copy
