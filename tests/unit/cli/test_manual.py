import subprocess
import sys
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli import main
from mirrord.cli.global_options import ADMIN_ENDPOINT, GlobalOptions
from mirrord.cli.manual import CHAPTERS, Manual
from mirrord.config.config import AdminConfig

ROOT = Path(__file__).parents[3]
SUMMARIES = {name: summary for chapter in CHAPTERS.values() for name, summary in chapter.items()}


class ManualTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.context = click.Context(main.mirrord, info_name="mirrord")

    def command(self, name: str) -> click.Command:
        command = main.mirrord.get_command(self.context, name)
        assert command is not None
        return command

    def test_every_command(self) -> None:
        """Every command of the manual can be loaded, and begins its own help with the summary."""
        for name, summary in SUMMARIES.items():
            command = self.command(name)
            self.assertEqual(command.name, name)
            self.assertEqual((command.help or "").split("\n\n")[0], summary)

    def test_help(self) -> None:
        """The manual has every command with its summary, and fits a terminal of 80 columns."""
        manual = main.mirrord.get_help(self.context)
        for name, summary in SUMMARIES.items():
            self.assertRegex(manual, rf"\n  {name} +{summary[:20]}")
        self.assertLessEqual(max(map(len, manual.splitlines())), 80)

    def test_no_stranger(self) -> None:
        """A module beside the commands is no command."""
        for name in ("addresses", "main", "../ls", "offline-daemon"):
            self.assertIsNone(main.mirrord.get_command(self.context, name))

    def test_run_is_light(self) -> None:
        """What becomes the daemon imports neither rich nor the daemon first."""
        code = (
            "import sys; from mirrord.cli.main import mirrord; mirrord.get_command(None, 'run');"
            "print([name for name in ('rich', 'twisted', 'cattrs', 'cryptography') if name in sys.modules])"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        self.assertEqual(said.stdout, "[]\n")

    def test_it_is_lazy(self) -> None:
        """To show the manual, or to complete a command, loads no command."""

        class Unloaded(Manual):
            def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
                raise AssertionError(f"{cmd_name} was loaded")

        group = Unloaded("mirrord", params=main.mirrord.params)
        context = click.Context(group, info_name="mirrord")
        group.get_help(context)
        self.assertEqual([item.value for item in group.shell_complete(context, "st")], ["status"])
        self.assertIn("--admin", [item.value for item in group.shell_complete(context, "--")])


class SettingsTests(SynchronousTestCase):
    def test_default(self) -> None:
        """Without a configuration the admin listener is where the daemon's own default has it."""
        self.assertEqual(ADMIN_ENDPOINT, AdminConfig().endpoint)
        self.assertEqual(str(GlobalOptions(named_admin=ADMIN_ENDPOINT).admin()), "http://127.0.0.1:5001")
