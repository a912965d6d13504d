import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[3]


class CommandTests(SynchronousTestCase):
    """The command as a process; tests/integration/test_systemd.py tests its effects."""

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def call(self, *options: str) -> "subprocess.CompletedProcess[str]":
        code = "from mirrord.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "install-service", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_dry_run(self) -> None:
        """A dry run prints every file and every command, and changes nothing."""
        done = self.call("--dry-run", "--socket", f"--root={self.root}")
        self.assertEqual(done.returncode, 0, done.stderr)
        for file in ("etc/systemd/system/mirrord.service", "etc/systemd/system/mirrord.socket"):
            self.assertIn(f"==> {self.root}/{file}\n", done.stdout)
        self.assertIn(f"ExecStart={Path(sys.executable).parent}/twistd ", done.stdout)
        self.assertIn("\n[store]\n", done.stdout)
        self.assertIn(f"$ systemctl --root={self.root} enable ", done.stdout)
        self.assertEqual(list(self.root.iterdir()), [])

    def test_wrong_use(self) -> None:
        """Contradictory options exit with status 2 and one line."""
        for options in (("--purge",), ("--uninstall", "--now"), ("--now", f"--root={self.root}")):
            done = self.call(*options)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), done)

    def test_foreign_port(self) -> None:
        """A socket is not installed if the configuration has a port of its own; the error has the reason."""
        config = self.root / "etc/mirrord/mirrord.toml"
        config.parent.mkdir(parents=True)
        config.write_text('[[listen]]\nendpoint = "tcp:5000"\n')
        done = self.call("--socket", f"--root={self.root}")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done)
        self.assertIn("systemd:domain=INET:name=mirrord", done.stderr)
        self.assertFalse((self.root / "etc/systemd").exists())
