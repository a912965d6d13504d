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
    """Serve in the foreground.

    The options are those of the daemon, which lists them itself.
    """
    command = daemon_command(options)
    os.execv(command[0], command)  # noqa: S606 - without a shell is what we want


def daemon_command(options: Sequence[str]) -> list[str]:
    """The command line of the daemon, with the twistd of the environment that we are installed in."""
    twistd = Path(sysconfig.get_path("scripts"), "twistd")
    return [str(twistd), "--nodaemon", "--pidfile=", "mirrord", *options]
