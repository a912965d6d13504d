"""Find, run and stop the programs that the tests of real clients need."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import SkipTest

import attrs

_RUN_SECONDS = 120.0


def find(name: str) -> str:
    """Return the path of a program; if it is missing, skip the test, or fail it with `CI=true`."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is not None:
        return path
    reason = f"{name} is not installed (.ci/run installs it with apt-get)"
    if os.environ.get("CI") == "true":
        raise AssertionError(reason)
    raise SkipTest(reason)


def run(*command: str, environment: Mapping[str, str] | None = None, is_good: bool = True) -> str:
    """Run a program and return its output; it has to succeed, or to fail with `is_good=False`."""
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )
    if (done.returncode == 0) is not is_good:
        raise AssertionError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


@attrs.define(eq=False)
class Service:
    """A program that runs until it is stopped; its output goes to `log`."""

    command: tuple[str, ...]
    log: Path
    _process: "subprocess.Popen[bytes] | None" = attrs.field(default=None, init=False)

    def start(self, is_ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Start the program in a session of its own, and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.command[0]} is not ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Terminate the program, then kill its process group."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
