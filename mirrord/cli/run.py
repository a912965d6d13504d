"""`mirrord run`: the daemon in the foreground."""

import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import click


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def run(options: tuple[str, ...]) -> None:
    """Run the mirror in the foreground.

    The options are passed to the daemon; see `mirrord run --help`.
    """
    command = daemon_command(options)
    os.execv(command[0], command)  # noqa: S606 - no shell is needed


def daemon_command(options: Sequence[str]) -> list[str]:
    """Return the command line of the daemon, with the twistd of this installation."""
    twistd = Path(sysconfig.get_path("scripts"), "twistd")
    return [str(twistd), "--nodaemon", "--pidfile=", "mirrord", *options]
