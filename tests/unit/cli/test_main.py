import subprocess
import sys
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli import main
from mirrord.cli.global_options import ADMIN_ENDPOINT, GlobalOptions
from mirrord.cli.main import COMMANDS, CommandGroup
from mirrord.config.config import AdminConfig

ROOT = Path(__file__).parents[3]
SUMMARIES = {name: summary for section in COMMANDS.values() for name, summary in section.items()}


class CommandGroupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.context = click.Context(main.mirrord, info_name="mirrord")

    def command(self, name: str) -> click.Command:
        command = main.mirrord.get_command(self.context, name)
        assert command is not None
        return command

    def test_every_command(self) -> None:
        """Every command in the table can be imported, and its help begins with the summary."""
        for name, summary in SUMMARIES.items():
            command = self.command(name)
            self.assertEqual(command.name, name)
            self.assertEqual((command.help or "").split("\n\n")[0], summary)

    def test_help(self) -> None:
        """The help has every command with its summary, and fits a terminal of 80 columns."""
        text = main.mirrord.get_help(self.context)
        for name, summary in SUMMARIES.items():
            self.assertRegex(text, rf"\n  {name} +{summary[:20]}")
        self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_not_a_command(self) -> None:
        """Other modules of the package are not commands."""
        for name in ("addresses", "main", "../ls", "offline-daemon"):
            self.assertIsNone(main.mirrord.get_command(self.context, name))

    def test_run_is_light(self) -> None:
        """The command that starts the daemon imports neither rich nor the daemon's dependencies."""
        code = (
            "import sys; from mirrord.cli.main import mirrord; mirrord.get_command(None, 'run');"
            "print([name for name in ('rich', 'twisted', 'cattrs', 'cryptography') if name in sys.modules])"
        )
        output = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        self.assertEqual(output.stdout, "[]\n")

    def test_it_is_lazy(self) -> None:
        """Help and completion import no command."""

        class Unloaded(CommandGroup):
            def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
                raise AssertionError(f"{cmd_name} was loaded")

        group = Unloaded("mirrord", params=main.mirrord.params)
        context = click.Context(group, info_name="mirrord")
        group.get_help(context)
        self.assertEqual([item.value for item in group.shell_complete(context, "st")], ["status"])
        self.assertIn("--admin", [item.value for item in group.shell_complete(context, "--")])


class GlobalOptionsTests(SynchronousTestCase):
    def test_default(self) -> None:
        """Without a configuration the admin listener has the daemon's default endpoint."""
        self.assertEqual(ADMIN_ENDPOINT, AdminConfig().endpoint)
        self.assertEqual(str(GlobalOptions(admin_option=ADMIN_ENDPOINT).admin()), "http://127.0.0.1:5001")
