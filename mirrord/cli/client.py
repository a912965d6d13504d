"""`mirrord client`: the files that point a client at this mirror."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from mirrord.cli.configuration import read_config
from mirrord.cli.daemon import Daemon
from mirrord.cli.placing import place
from mirrord.cli.seen import client_url
from mirrord.cli.settings import Settings, located
from mirrord.recipes import RECIPES, Mirror, Registry

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def _read_url(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Scheme, host and port: what follows is of another client's making."""
    if text is None:
        return None
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname or url.path.strip("/") or url.query:
        raise click.BadParameter("http://HOST:PORT or https://HOST:PORT is needed")
    return f"{url.scheme}://{url.netloc}"


@click.command()
@click.argument("client", type=click.Choice(list(RECIPES)))
@click.option("--mirror", metavar="URL", callback=_read_url, help="The mirror, as this client reaches it.")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A certificate that the client has to trust, if the mirror's is not a public one.",
)
@click.option("--write", is_flag=True, help="Write the files on this host, instead of printing them.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    help="With --write: below this folder.",
)
@located
def client(
    settings: Settings, client: str, mirror: str | None, ca: Path | None, *, write: bool, root: Path
) -> None:
    """Print, or write, the files that point a client at this mirror.

    The mirror is the first listener of the configuration, with all its upstreams. What --write finds and
    changes is kept beside the new file; daemon.json keeps its other keys.
    """
    config = read_config(settings)
    listener = config.listen[0]
    registries = tuple(Registry(one.name, one.prefix) for one in config.upstream)
    url = mirror or client_url(listener, Daemon(settings.admin()))
    trusted = "" if ca is None else ca.read_text("utf-8")
    recipe = RECIPES[client](Mirror(url, registries, listener.upstream, trusted))
    for file in recipe.files:
        if write:
            click.echo(place(file, root))
        else:
            click.echo(f"# {file.path}\n{file.text}")
    click.echo(recipe.then)
    if not write and urlsplit(url).hostname in _LOOPBACK:
        click.echo(f"mirrord: {url} is for clients on this host; for others: --mirror URL", err=True)
