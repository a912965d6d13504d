"""`mirrord check-config`: the configuration as the daemon interprets it."""

import os

import click

from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.run import daemon_command


@click.command()
@with_global_options
def check_config(options: GlobalOptions) -> None:
    """Validate the configuration and print it with its defaults.

    Prints each error on a line with the path of its key; without errors, the effective configuration.
    Also opens the files that the configuration names.
    """
    config = [] if options.config is None else ["--config", str(options.config)]
    command = daemon_command(["--check", *config])
    os.execv(command[0], command)  # noqa: S606 - no shell is needed
