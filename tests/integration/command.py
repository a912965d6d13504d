"""Run `mirrord` as a process, without or on a terminal."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Self

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


@attrs.define(eq=False)
class Terminal:
    """A command on a terminal."""

    _process: "subprocess.Popen[bytes]"
    _fd: int
    output: str = attrs.field(default="", init=False)

    @classmethod
    def open(cls, command: list[str], environment: dict[str, str]) -> Self:
        """Run a command on a terminal of 120 columns."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        return cls(process, ours)

    def read_until(self, text: str) -> None:
        """Read the output until it contains `text`."""
        while text not in self.output:
            if not self._read():
                raise AssertionError(f"{text!r} did not appear:\n{self.output[-3000:]}")

    def interrupt(self) -> None:
        """Send SIGINT, as Control-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Read all output and return the exit status."""
        while self._read():
            pass
        return self._process.wait(30)

    def close(self) -> None:
        """Kill the command."""
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        is_ready, _, _ = select.select([self._fd], [], [], 60)
        try:
            chunk = os.read(self._fd, 65_536) if is_ready else b""
        except OSError:  # raised by Linux when the other end is closed
            chunk = b""
        self.output += chunk.decode("utf-8", "replace")
        return bool(chunk)


def mirrord(*arguments: str, home: Path, reader: str = "cat", **environment: str) -> Ended:
    """Run a command line of mirrord without a terminal; its output is piped into `reader`."""
    pipeline = f'set -o pipefail; "$@" | {reader}'
    done = subprocess.run(
        ["bash", "-c", pipeline, "bash", sys.executable, "-c", _MAIN, *arguments],
        cwd=home,
        env={**_environment(home), "COLUMNS": "120", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home), "TERM": "xterm"}


class CommandCase(SynchronousTestCase):
    """A folder with a configuration that names a fake admin listener."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.admin = FakeAdmin(self.folder / "admin")
        self.admin.start()
        self.addCleanup(self.admin.stop)
        self.config = self.folder / "mirrord.toml"
        self.configure(self.admin.endpoint)

    def configure(self, admin: str, more: str = "") -> None:
        """Write the configuration; its listener is on an unused port."""
        self.config.write_text(
            f'[store]\npath = "{self.folder}/store"\nmin_free = "1 MiB"\n'
            f'[admin]\nendpoint = "{admin}"\n'
            f'[[listen]]\nendpoint = "tcp:{free_port()}:interface=127.0.0.1"\n{more}'
        )

    def mirrord(self, command: str, *arguments: str, reader: str = "cat") -> Ended:
        """Run a command with the configuration."""
        return mirrord(command, *arguments, "--config", str(self.config), home=self.folder, reader=reader)

    def open_terminal(self, *arguments: str) -> Terminal:
        """Run a command with the configuration on a terminal."""
        command = [sys.executable, "-c", _MAIN, *arguments, "--config", str(self.config)]
        terminal = Terminal.open(command, _environment(self.folder))
        self.addCleanup(terminal.close)
        return terminal

    def assert_well(self, ended: Ended) -> None:
        self.assertEqual((ended.status, ended.err), (0, ""), ended.out)

    def assert_ended(self, ended: Ended, status: int, message: str) -> None:
        """Check the status, and that the error is one line with this message."""
        self.assertEqual(ended.status, status, ended)
        self.assertEqual(len(ended.err.splitlines()), 1, ended.err)
        self.assertIn(message, ended.err)
