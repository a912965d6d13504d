"""Statuses: how a command ends, for scripts."""

import click

EXIT_STATUSES = {
    0: "All is well.",
    1: "It failed, or found what is not well; the last lines say what.",
    2: "The command line cannot be understood. Nothing was done.",
    3: "No daemon answers.",
    4: "What was named is not held.",
    130: "It was interrupted.",
}


class CommandError(click.ClickException):
    """It did not work; the message is one line for the operator."""

    exit_code = 1


class DaemonUnreachable(CommandError):
    """No daemon answers, or it went away in the middle."""

    exit_code = 3


class NotFound(CommandError):
    """What was named is not there."""

    exit_code = 4


INTERRUPTED = 130
