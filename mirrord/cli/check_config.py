"""`mirrord check-config`: the configuration as the daemon understands it."""

import os

import click

from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.run import daemon_command


@click.command()
@with_global_options
def check_config(settings: GlobalOptions) -> None:
    """Print what is wrong with the configuration, or what it means.

    Every error stands on a line of its own, with the path of its key. Without errors the effective
    configuration is printed, defaults and all. It also opens the files that the configuration names.
    """
    config = [] if settings.config is None else ["--config", str(settings.config)]
    command = daemon_command(["--check", *config])
    os.execv(command[0], command)  # noqa: S606 - without a shell is what we want
