"""The manual: the commands in their chapters, and a group that reads them without loading one.

`mirrord --help` on a Raspberry Pi is a matter of imports: click alone takes a third of a second there,
rich and the daemon's parts take several. So this table, not the commands' modules, is what a manual
and a completion are made of; a module is imported when its command is called.
"""

from collections.abc import Mapping
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from mirrord.cli.exit_status import EXIT_STATUSES

CHAPTERS: Mapping[str, Mapping[str, str]] = {
    "Serving": {
        "run": "Serve in the foreground.",
        "check-config": "Print what is wrong with the configuration, or what it means.",
        "install-service": "Run mirrord under systemd, from boot on.",
        "self-signed": "Make a certificate for hosts that trust no public one.",
    },
    "Clients": {
        "client": "Print, or write, the files that point a client at this mirror.",
    },
    "Looking": {
        "status": "Show what it does now: downloads, upstreams, store.",
        "ls": "List the repositories and tags that are held.",
        "why": "Explain what a client that asks for an image would get.",
        "doctor": "Look for what is wrong, and say what to do.",
    },
    "The cache": {
        "pull": "Fetch images before anybody asks for them.",
        "rm": "Take out a repository, a tag or a digest.",
        "gc": "Make room now, as the limits and keep rules have it.",
        "verify": "Hash all that is held; fetch again what is damaged.",
    },
    "Hosted repositories": {
        "backup": "Copy hosted repositories to a folder, while clients are served.",
        "restore": "Put hosted repositories back from a backup.",
    },
    "Shell": {
        "completion": "Print what makes a shell complete these commands.",
    },
}

EXAMPLES = (
    "mirrord run",
    "mirrord client docker --write",
    "mirrord pull ubuntu:24.04 ghcr.io/home-assistant/home-assistant:stable",
    "mirrord status",
    'eval "$(mirrord completion bash)"',
)


class Manual(click.Group):
    """The command `mirrord`: its subcommands by chapter, each loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the manual."""
        return [name for chapter in CHAPTERS.values() for name in chapter]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, from the module of its name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"mirrord.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section a chapter."""
        width = max(map(len, self.list_commands(ctx)))
        for title, chapter in CHAPTERS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in chapter.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, and how commands end."""
        with formatter.section("Examples"):
            for example in EXAMPLES:
                formatter.write_text(example)
        with formatter.section("Exit status"):
            formatter.write_dl([(f"{status:<3}", meaning) for status, meaning in EXIT_STATUSES.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin so."""
        commands = [
            CompletionItem(name, help=summary)
            for chapter in CHAPTERS.values()
            for name, summary in chapter.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)
