"""`mirrord restore`: hosted repositories from a backup."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from mirrord.cli.backup import run_copy
from mirrord.cli.configuration import read_config
from mirrord.cli.exit_status import CommandError, NotFound
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.ownership import Owner
from mirrord.store.backup import BackupProgress, NoBackup
from mirrord.store.backup import restore as restore_backup
from mirrord.store.disk import StoreInUse
from mirrord.store.layout import Layout


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="Print progress and result as lines of JSON.")
@with_global_options
def restore(options: GlobalOptions, directory: Path, *, is_json: bool) -> None:
    """Restore hosted repositories from a backup.

    Stop the daemon first. All content is verified. Other content of the store is kept; a tag that is in
    both becomes that of the backup. Restored files belong to the owner of the store's directory.
    """
    config = read_config(options)
    layout = Layout(config.store.path.absolute(), config.hosted_folder.absolute())
    source = directory.absolute()
    reader, writer = Owner.of(source), Owner.of(layout.root, layout.hosted_root)
    with writer.acting():
        run_copy(partial(_restore, source, layout, reader, may_link=reader == writer), is_json=is_json)


def _restore(
    source: Path, layout: Layout, reader: Owner, report: Callable[[BackupProgress], None], *, may_link: bool
) -> BackupProgress:
    try:
        return restore_backup(source, layout, report, may_link=may_link, as_reader=reader.acting)
    except NoBackup as error:
        raise NotFound(str(error)) from None
    except StoreInUse as error:
        raise CommandError(f"{error}; run `systemctl stop mirrord` and try again") from None
