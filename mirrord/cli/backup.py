"""`mirrord backup`: what cannot be fetched again, in a second place."""

import time
from functools import partial
from pathlib import Path

import click

from mirrord.cli.configuration import read_config
from mirrord.cli.copying import follow
from mirrord.cli.exit_status import CommandError, NotFound
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.store.backup import back_up
from mirrord.store.layout import Layout


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--copy", "is_copy", is_flag=True, help="Copy also where a second name for a file would do.")
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON now and then, and at the end.")
@with_global_options
def backup(settings: GlobalOptions, folder: Path, *, is_copy: bool, is_json: bool) -> None:
    """Copy hosted repositories to a folder, while clients are served.

    What is in FOLDER already is not copied again, and what is not hosted any more goes from there. At any
    moment FOLDER is complete, as of the last backup that ended. On the file system of the store a backup
    takes no room, for files get a second name; it then saves from mistakes, but not from a broken disk.
    """
    store = Path(read_config(settings).store.path).absolute()
    if not Layout(store).index.exists():
        raise NotFound(f"{store} holds no store")
    target = folder.absolute()
    if Layout(target).lock.exists() or store.resolve() in (target.resolve(), *target.resolve().parents):
        raise CommandError(f"{folder} is a store, or in one; a backup needs a folder of its own")
    follow(partial(back_up, store, target, time.time(), may_link=not is_copy), is_json=is_json)
