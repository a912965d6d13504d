"""`mirrord` as an operator runs it: a process, its output and its status."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.admin import FakeAdmin
from tests.integration.daemon import ROOT, free_port

_MAIN = "from mirrord.cli.main import main; main()"


@attrs.frozen
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def mirrord(*arguments: str, home: Path, reader: str = "cat", **environment: str) -> Ended:
    """Run a command line of mirrord, with no terminal, to its end; `reader` gets what it prints."""
    pipeline = f'set -o pipefail; "$@" | {reader}'
    done = subprocess.run(
        ["bash", "-c", pipeline, "bash", sys.executable, "-c", _MAIN, *arguments],
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "COLUMNS": "120",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class CommandCase(SynchronousTestCase):
    """A folder, and a configuration in it that names a fake admin listener."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.admin = FakeAdmin()
        self.admin.start()
        self.addCleanup(self.admin.stop)
        self.config = self.folder / "mirrord.toml"
        self.configure(self.admin.endpoint)

    def configure(self, admin: str, more: str = "") -> None:
        """Write the configuration: its listener is at a port that nobody has."""
        self.config.write_text(
            f'[store]\npath = "{self.folder}/store"\nmin_free = "1 MiB"\n'
            f'[admin]\nendpoint = "{admin}"\n'
            f'[[listen]]\nendpoint = "tcp:{free_port()}:interface=127.0.0.1"\n{more}'
        )

    def mirrord(self, command: str, *arguments: str, reader: str = "cat") -> Ended:
        """Run a command that asks the fake."""
        return mirrord(command, *arguments, "--config", str(self.config), home=self.folder, reader=reader)

    def assert_well(self, ended: Ended) -> None:
        self.assertEqual((ended.status, ended.err), (0, ""), ended.out)

    def assert_ended(self, ended: Ended, status: int, said: str) -> None:
        """It ended so, with one line that says why and no traceback."""
        self.assertEqual(ended.status, status, ended)
        self.assertEqual(len(ended.err.splitlines()), 1, ended.err)
        self.assertIn(said, ended.err)
