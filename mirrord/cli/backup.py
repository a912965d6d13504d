"""`mirrord backup`: a copy of hosted repositories; and the progress of a backup or a restore."""

import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import click

from mirrord.cli.configuration import read_config
from mirrord.cli.exit_status import CommandError, NotFound
from mirrord.cli.formatting import format_count, format_duration, format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.ownership import Owner
from mirrord.cli.progress import ProgressDisplay
from mirrord.store.backup import BackupProgress, BackupShrinks, back_up
from mirrord.store.layout import Layout

_REPORT_SECONDS = 0.5

Copy = Callable[[Callable[[BackupProgress], None]], BackupProgress]
"""Copies content, reports its progress to the argument, and returns the result."""


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--copy", "is_copy", is_flag=True, help="Copy files instead of hard-linking them.")
@click.option("--prune", "prunes", is_flag=True, help="Delete earlier generations, even if they have more.")
@click.option("--json", "is_json", is_flag=True, help="Print progress and result as lines of JSON.")
@with_global_options
def backup(options: GlobalOptions, directory: Path, *, is_copy: bool, prunes: bool, is_json: bool) -> None:
    """Back up hosted repositories while the daemon runs.

    Copies content that is not in DIRECTORY yet. The last 7 generations are kept, with their content. The
    backup is complete at any time, as of the last run that finished. If the store has less than half of
    what the last generation has, nothing is changed. On the file system of the store, files are hard-linked
    and take no space; that protects against mistakes, but not against disk failure.
    """
    config = read_config(options)
    layout = Layout(config.store.path.absolute(), config.hosted_folder.absolute())
    reader = Owner.of(layout.root, layout.hosted_root)
    with reader.acting():
        if not layout.index.exists():
            raise NotFound(f"there is no store in {layout.root}")
    target = directory.absolute()
    if (
        Layout(target).lock.exists()
        or _is_inside(target, layout.root)
        or _is_inside(target, layout.hosted_root)
    ):
        raise CommandError(f"{directory} is a store, or inside one; use a separate directory")
    copy = partial(back_up, layout, target, may_link=not is_copy, prunes=prunes, as_reader=reader.acting)
    try:
        with Owner.of(target).acting():
            run_copy(copy, is_json=is_json)
    except BackupShrinks as error:
        raise CommandError(f"{error}; if that is right, use --prune") from None


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def run_copy(copy: Copy, *, is_json: bool) -> None:
    """Run a backup or a restore and report its progress and result.

    Raises:
        CommandError: A disk or an index failed, or some content was corrupt.
    """
    began_at = time.monotonic()
    progress = _copy(copy, is_json=is_json)
    seconds = time.monotonic() - began_at
    for kind, digest in progress.lost:
        if is_json:
            print_json({"event": "lost", "digest": str(digest), "kind": str(kind)})
        else:
            click.echo(f"{kind} {digest} is corrupt and was skipped")
    _print_result(progress, seconds, is_json=is_json)
    if progress.lost:
        raise CommandError(f"{format_count(len(progress.lost), 'entry')} could not be copied")


def _copy(copy: Copy, *, is_json: bool) -> BackupProgress:
    try:
        if is_json:
            return copy(_JSONReporter())
        with ProgressDisplay() as display:
            return copy(lambda so_far: display.update("copied", so_far.bytes, so_far.of_bytes))
    except PermissionError as error:
        advice = "try again with sudo" if os.getuid() else "the owner of the directory must have access to it"
        raise CommandError(f"cannot access {error.filename}: permission denied; {advice}") from None
    except sqlite3.Error as error:
        raise CommandError(f"cannot use the index: {error}") from None


def _print_result(progress: BackupProgress, seconds: float, *, is_json: bool) -> None:
    if is_json:
        result = {**_document(progress), "removed": progress.removed, "lost": len(progress.lost)}
        print_json({"event": "done", **result, "seconds": seconds})
        return
    entries, size = format_count(progress.entries, "entry"), format_size(progress.bytes)
    copied = f"{progress.copied} copied in {format_duration(seconds)}"
    removed = f", {progress.removed} removed" if progress.removed else ""
    click.echo(f"{entries}, {size}: {copied}{removed}")


@attrs.define(eq=False)
class _JSONReporter:
    """Prints progress as lines of JSON, at most one per `_REPORT_SECONDS`."""

    _reported_at: float = 0.0

    def __call__(self, progress: BackupProgress) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            print_json({"event": "progress", **_document(progress)})


def _document(progress: BackupProgress) -> dict[str, int]:
    return attrs.asdict(progress, filter=attrs.filters.exclude("removed", "lost"))
