"""`mirrord repair`: leave out what cannot be read of a damaged journal."""

import os

import click

from mirrord.cli.configuration import read_config
from mirrord.cli.exit_status import CommandError, NotFound
from mirrord.cli.formatting import print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.ownership import Owner
from mirrord.store import recovery
from mirrord.store.disk import StoreInUse
from mirrord.store.history import DamagedJournal
from mirrord.store.layout import Layout


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON per damaged file.")
@with_global_options
def repair(options: GlobalOptions, *, is_json: bool) -> None:
    """Repair the journal of hosted repositories if the daemon cannot start.

    Stop the daemon first. Changes in a damaged journal file that are also in the index or a snapshot, or that
    can still be read, are kept. The file is set aside. Exits with status 1 if changes are lost.
    """
    config = read_config(options)
    layout = Layout(config.store.path.absolute(), config.hosted_folder.absolute())
    with Owner.of(layout.root, layout.hosted_root).acting():
        damaged = _repair(layout)
    for each in damaged:
        if is_json:
            print_json(_document(each))
        else:
            loss = describe_loss(each)
            click.echo(f"{each.path} was damaged and is set aside as {each.aside.name}; {loss}")
    if not damaged and not is_json:
        click.echo("nothing to repair")
    if any(map(_has_lost, damaged)):
        raise CommandError(
            "changes of hosted repositories are lost; the daemon can start: push again what is missing, or "
            "restore a backup"
        )


def _repair(layout: Layout) -> tuple[DamagedJournal, ...]:
    try:
        if not layout.index.exists() and not layout.hosted_root.exists():
            raise NotFound(f"there is no store in {layout.root}")
        return recovery.repair(layout)
    except StoreInUse as error:
        raise CommandError(f"{error}; run `systemctl stop mirrord` and try again") from None
    except PermissionError as error:
        advice = "try again with sudo" if os.getuid() else "its owner must have access to it"
        raise CommandError(f"cannot access {error.filename}: permission denied; {advice}") from None


def _has_lost(damaged: DamagedJournal) -> bool:
    return bool(damaged.lost) or damaged.lost_after is not None


def describe_loss(damaged: DamagedJournal) -> str:
    """Return which changes are lost, by their numbers in the journal, for people."""
    lost = [_format_range(each) for each in damaged.lost]
    if damaged.lost_after is not None:
        lost.append(f"any after {damaged.lost_after}")
    return f"lost changes: {', '.join(lost)}" if lost else "no change is lost"


def _format_range(numbers: range) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _document(damaged: DamagedJournal) -> dict[str, object]:
    return {
        "event": "damaged",
        "file": str(damaged.path),
        "set_aside": str(damaged.aside),
        "lost": [[numbers[0], numbers[-1]] for numbers in damaged.lost],
        "lost_after": damaged.lost_after,
    }
