"""The entry point of `mirrord`."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from mirrord.cli.exit_status import INTERRUPTED
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.manual import Manual


def _say_version(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    """Loaded when asked for: what knows the version takes as long to import as all of this."""
    if is_asked and not context.resilient_parsing:
        click.echo(f"mirrord {import_module('mirrord.observe.build').version()}")
        context.exit()


@click.group(cls=Manual, no_args_is_help=False)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
@with_global_options
def mirrord(settings: GlobalOptions) -> None:
    """A container registry mirror: one daemon between your hosts and Docker Hub's pull limit.

    Most of these commands ask the running daemon at its admin listener, which the configuration names.
    `ls`, `why`, `rm`, `gc` and `verify` also work while none runs.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Carry out a command line, ours unless another is given; it ends with a status of `EXIT_STATUSES`."""
    try:
        ended = mirrord.main(arguments, prog_name="mirrord", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "mirrord"
        _fail(f"{command}: {_one_line(error)}; see {command} --help", error.exit_code)
    except click.ClickException as error:
        _fail(f"mirrord: {error.format_message()}", error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except OSError as error:
        _fail(f"mirrord: {error.filename or 'it failed'}: {error.strerror or error}", 1)
    sys.exit(ended if isinstance(ended, int) else 0)


def _one_line(error: click.UsageError) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    return message[:1].lower() + message[1:]


def _fail(line: str, status: int) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(status)
