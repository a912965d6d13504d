"""`mirrord client`: the files that point a client at this mirror."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import click
from cryptography.hazmat.primitives.serialization import Encoding

from mirrord.cli.admin_client import AdminClient
from mirrord.cli.client_files import place
from mirrord.cli.configuration import read_config
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.seen import client_url
from mirrord.client_config import RECIPES, MirrorAddress, Registry
from mirrord.config.pem import read_certificates

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_URL = re.compile(r"(https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)/?")
"""What means itself in JSON, TOML, YAML and a path: it comes to stand in all of them."""


def _read_url(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Scheme, host and port: what follows is of another client's making."""
    if text is None:
        return None
    url = _URL.fullmatch(text)
    if url is None:
        raise click.BadParameter("http://HOST:PORT or https://HOST:PORT is needed")
    return url[1]


def _read_ca(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> str:
    """The certificates of a file, and nothing else that is in it: everybody may read what is written."""
    if file is None:
        return ""
    try:
        return "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in read_certificates(file))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("client", type=click.Choice(list(RECIPES)))
@click.option("--mirror", metavar="URL", callback=_read_url, help="The mirror, as this client reaches it.")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_ca,
    help="A certificate that the client has to trust, if the mirror's is not a public one.",
)
@click.option("--write", is_flag=True, help="Write the files on this host, instead of printing them.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    help="With --write: below this folder.",
)
@with_global_options
def client(
    settings: GlobalOptions, client: str, mirror: str | None, ca: str, *, write: bool, root: Path
) -> None:
    """Print, or write, the files that point a client at this mirror.

    The mirror is the first listener of the configuration, with all its upstreams. What --write finds and
    changes is kept beside the new file; daemon.json keeps its other keys.
    """
    config = read_config(settings)
    listener = config.listen[0]
    registries = tuple(Registry(one.name, one.prefix) for one in config.upstream)
    url = mirror or client_url(listener, AdminClient(settings.admin()))
    recipe = RECIPES[client](MirrorAddress(url, registries, listener.upstream, ca))
    for file in recipe.files:
        if write:
            click.echo(place(file, root))
        else:
            click.echo(f"# {file.path}\n{file.text}")
    click.echo(recipe.then)
    if not write and urlsplit(url).hostname in _LOOPBACK:
        click.echo(f"mirrord: {url} is for clients on this host; for others: --mirror URL", err=True)
