"""The entry point of `mirrord`: the table of commands, and a group that imports them on demand.

On a Raspberry Pi the time of `mirrord --help` is the time of its imports: click alone takes a third of a
second there, rich and the daemon's modules several. So help and completion are generated from this table,
and a command's module is imported when the command is called.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from mirrord.cli.exit_status import EXIT_STATUSES, INTERRUPTED
from mirrord.cli.global_options import GlobalOptions, with_global_options

COMMANDS: Mapping[str, Mapping[str, str]] = {
    "Daemon": {
        "run": "Run the mirror in the foreground.",
        "check-config": "Validate the configuration and print it with its defaults.",
        "install-service": "Install mirrord as a systemd service.",
        "self-signed": "Create a self-signed TLS certificate.",
    },
    "Clients": {
        "client": "Print or write the client configuration for this mirror.",
    },
    "Inspection": {
        "status": "Show the status of downloads, upstreams and the store.",
        "ls": "List stored repositories and tags.",
        "why": "Explain how the mirror would answer a pull.",
        "doctor": "Diagnose problems and suggest fixes.",
    },
    "Cache": {
        "pull": "Download images ahead of time.",
        "rm": "Remove an image or a repository from the mirror.",
        "gc": "Run garbage collection now.",
        "verify": "Verify all stored content and repair it from the upstreams.",
    },
    "Hosted repositories": {
        "backup": "Back up hosted repositories while the daemon runs.",
        "restore": "Restore hosted repositories from a backup.",
        "repair": "Repair the journal of hosted repositories if the daemon cannot start.",
    },
    "Shell": {
        "completion": "Print a shell completion script.",
    },
}
"""The summaries of all commands by name, in sections."""

EXAMPLES = (
    "mirrord run",
    "mirrord client docker --write",
    "mirrord pull ubuntu:24.04 ghcr.io/home-assistant/home-assistant:stable",
    "mirrord status",
    'eval "$(mirrord completion bash)"',
)


class CommandGroup(click.Group):
    """The subcommands by section, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command from the module of its name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"mirrord.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section of help per section of commands."""
        width = max(map(len, self.list_commands(ctx)))
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in section.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and exit statuses."""
        with formatter.section("Examples"):
            for example in EXAMPLES:
                formatter.write_text(example)
        with formatter.section("Exit status"):
            formatter.write_dl([(f"{status:<3}", meaning) for status, meaning in EXIT_STATUSES.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with `incomplete`."""
        commands = [
            CompletionItem(name, help=summary)
            for section in COMMANDS.values()
            for name, summary in section.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


def _print_version(context: click.Context, _parameter: click.Parameter, is_given: bool) -> None:
    """Import the version on demand: that takes as long as importing everything else here."""
    if is_given and not context.resilient_parsing:
        click.echo(f"mirrord {import_module('mirrord.observe.build').version()}")
        context.exit()


@click.group(cls=CommandGroup, no_args_is_help=False)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@with_global_options
def mirrord(options: GlobalOptions) -> None:
    """A container registry mirror: one daemon between your hosts and Docker Hub's pull limit.

    Most commands send requests to the admin listener of the running daemon. `ls`, `why`, `rm`, `gc` and
    `verify` also work while it is stopped.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, by default the process's own, and exit with one of `EXIT_STATUSES`."""
    try:
        status = mirrord.main(arguments, prog_name="mirrord", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "mirrord"
        _fail(f"{command}: {_one_line(error)}; see {command} --help", error.exit_code)
    except click.ClickException as error:
        indented = error.format_message().replace("\n", "\n" + " " * len("mirrord: "))
        _fail(f"mirrord: {indented}", error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except OSError as error:
        _fail(f"mirrord: {error.filename or 'system error'}: {error.strerror or error}", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _one_line(error: click.UsageError) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    return message[:1].lower() + message[1:]


def _fail(line: str, status: int) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(status)
