import os
import sys
from io import StringIO
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.progress import ProgressDisplay


class ProgressDisplayTests(SynchronousTestCase):
    def show(self, **environment: str) -> str:
        """Return the output for a line and a bar."""
        with (
            patch.dict(os.environ, environment, clear=True),
            patch.object(sys, "stdout", StringIO()) as output,
        ):
            with ProgressDisplay() as display:
                display.update("sha256", 10, 20)
                display.print("app:rocket: [red]3 MiB cached")
                display.remove("sha256")
            return output.getvalue()

    def test_terminal(self) -> None:
        """On a terminal bars are shown, and a line is printed as it is, whatever its tags are."""
        output = self.show(FORCE_COLOR="1", TERM="xterm")
        self.assertIn("app:rocket: [red]3 MiB cached\n", output)
        self.assertIn("20 bytes", output)

    def test_pipe(self) -> None:
        """Elsewhere only the lines are printed."""
        self.assertEqual("app:rocket: [red]3 MiB cached\n", self.show())
