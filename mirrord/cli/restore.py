"""`mirrord restore`: hosted repositories from a backup."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from mirrord.cli.backup import run_copy
from mirrord.cli.configuration import read_config
from mirrord.cli.exit_status import CommandError, NotFound
from mirrord.cli.global_options import GlobalOptions, with_global_options
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
    with _store_owner(layout.root) as owner:
        may_link = directory.stat().st_uid == owner
        run_copy(partial(_restore, directory.absolute(), layout, may_link=may_link), is_json=is_json)


def _restore(
    source: Path, layout: Layout, report: Callable[[BackupProgress], None], *, may_link: bool
) -> BackupProgress:
    try:
        return restore_backup(source, layout, report, may_link=may_link)
    except NoBackup as error:
        raise NotFound(str(error)) from None
    except StoreInUse as error:
        raise CommandError(f"{error}; run `systemctl stop mirrord` and try again") from None


@contextmanager
def _store_owner(store: Path) -> Iterator[int]:
    """Yield the owner of the store's folder, or of its nearest ancestor; on exit, give it what root created.

    Root's files would be inaccessible to the service. Files of other users, as a backup may be, are not
    hard-linked into the store.
    """
    existing = next(path for path in (store, *store.parents) if path.exists())
    owner = existing.stat()
    try:
        yield owner.st_uid
    finally:
        if os.geteuid() == 0 and store.exists():
            _change_owner(store, owner.st_uid, owner.st_gid)


def _change_owner(store: Path, user: int, group: int) -> None:
    for root, folders, files in os.walk(store):
        for path in (Path(root), *(Path(root, name) for name in (*folders, *files))):
            if path.lstat().st_uid != user:
                os.chown(path, user, group, follow_symlinks=False)
