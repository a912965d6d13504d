"""Exit statuses, and the exceptions that produce them."""

import click

INTERRUPTED = 130

EXIT_STATUSES = {
    0: "Success.",
    1: "The command failed or found problems, as described in its last lines.",
    2: "Invalid command line; nothing was done.",
    3: "The daemon is not running or does not respond.",
    4: "The requested image, repository or backup does not exist.",
    INTERRUPTED: "Interrupted.",
}


class CommandError(click.ClickException):
    """The command failed; the message is one line for the operator."""

    exit_code = 1


class DaemonUnreachable(CommandError):
    """The daemon cannot be reached, or the connection to it was lost."""

    exit_code = 3


class NotFound(CommandError):
    """The named object does not exist."""

    exit_code = 4
