"""Copying: how far a backup or a restore is, as people and scripts see it."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import click

from mirrord.cli.exit_status import CommandError
from mirrord.cli.formatting import format_count, format_duration, format_size, print_json
from mirrord.cli.progress import Screen, open_screen
from mirrord.store.backup import BackupProgress

_TELL_SECONDS = 0.5

Work = Callable[[Callable[[BackupProgress], None]], BackupProgress]
"""Copies, tells how far it is, and answers how it ended."""


def follow(work: Work, *, is_json: bool) -> None:
    """Carry it out, and show how it goes on.

    Raises:
        CommandError: A disk refused, or not all of it was whole.
    """
    began_at = time.monotonic()
    with _failing():
        if is_json:
            progress = work(_Reporter())
        else:
            with open_screen() as screen:
                progress = work(_mover(screen))
    seconds = time.monotonic() - began_at
    for kind, digest in progress.lost:
        if is_json:
            print_json({"event": "lost", "digest": str(digest), "kind": str(kind)})
        else:
            click.echo(f"{kind} {digest} is not whole and left out")
    _say_end(progress, seconds, is_json=is_json)
    if progress.lost:
        raise CommandError(f"{format_count(len(progress.lost), 'entry')} could not be copied")


def _say_end(progress: BackupProgress, seconds: float, *, is_json: bool) -> None:
    if is_json:
        end = {**_document(progress), "removed": progress.removed, "lost": len(progress.lost)}
        print_json({"event": "done", **end, "seconds": seconds})
        return
    entries, size = format_count(progress.entries, "entry"), format_size(progress.bytes)
    copied = f"{progress.copied} of them copied in {format_duration(seconds)}"
    gone = f", {progress.removed} old ones removed" if progress.removed else ""
    click.echo(f"{entries}, {size}: {copied}{gone}")


@attrs.define(eq=False)
class _Reporter:
    """Prints a line of JSON now and then."""

    _told_at: float = 0.0

    def __call__(self, progress: BackupProgress) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            print_json({"event": "progress", **_document(progress)})


def _mover(screen: Screen) -> Callable[[BackupProgress], None]:
    return lambda progress: screen.move("copied", progress.bytes, progress.of_bytes)


def _document(progress: BackupProgress) -> dict[str, int]:
    return {
        "entries": progress.entries,
        "of_entries": progress.of_entries,
        "bytes": progress.bytes,
        "of_bytes": progress.of_bytes,
        "copied": progress.copied,
    }


@contextmanager
def _failing() -> Iterator[None]:
    """Say in a line what a disk, or an index, has against it."""
    try:
        yield
    except PermissionError as error:
        raise CommandError(f"{error.filename} belongs to another user; try again with sudo") from None
    except sqlite3.Error as error:
        raise CommandError(f"the index cannot be used: {error}") from None
