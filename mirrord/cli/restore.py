"""`mirrord restore`: hosted repositories, as they were when they were backed up."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from mirrord.cli.configuration import read_config
from mirrord.cli.copying import follow
from mirrord.cli.exit_status import CommandError, NotFound
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.store.backup import BackupProgress, NoBackup
from mirrord.store.backup import restore as put_back
from mirrord.store.disk import StoreInUse


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON now and then, and at the end.")
@with_global_options
def restore(settings: GlobalOptions, folder: Path, *, is_json: bool) -> None:
    """Put hosted repositories back from a backup.

    No daemon may run meanwhile. Everything is hashed. What the store has beside it stays; a tag that both
    have is as in the backup. Files become those of the owner of the store's folder.
    """
    store = Path(read_config(settings).store.path).absolute()
    with _owned(store) as owner:
        may_link = folder.stat().st_uid == owner
        follow(partial(_restore, folder.absolute(), store, may_link=may_link), is_json=is_json)


def _restore(
    folder: Path, store: Path, tell: Callable[[BackupProgress], None], *, may_link: bool
) -> BackupProgress:
    try:
        return put_back(folder, store, tell, may_link=may_link)
    except NoBackup as error:
        raise NotFound(str(error)) from None
    except StoreInUse as error:
        raise CommandError(f"{error}; systemctl stop mirrord, then try again") from None


@contextmanager
def _owned(store: Path) -> Iterator[int]:
    """Give what root makes in a store to the owner of its folder, or of the folder that it comes to be in.

    Root's files would be closed to the service. That owner is answered: files of others, which a backup may
    be, get no second name in the store.
    """
    standing = next(path for path in (store, *store.parents) if path.exists())
    owner = standing.stat()
    try:
        yield owner.st_uid
    finally:
        if os.geteuid() == 0 and store.exists():
            _give(store, owner.st_uid, owner.st_gid)


def _give(store: Path, user: int, group: int) -> None:
    for root, folders, files in os.walk(store):
        for path in (Path(root), *(Path(root, name) for name in (*folders, *files))):
            if path.lstat().st_uid != user:
                os.chown(path, user, group, follow_symlinks=False)
