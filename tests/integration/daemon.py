"""A daemon as an operator runs it: `twistd mirrord` in its own process."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import attrs

from tests.integration.client import pull

ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_BAD_LOG = re.compile(r"Traceback|Unhandled|Exception ignored", re.IGNORECASE)


def free_port() -> int:
    """Return an unused port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@attrs.frozen
class Settings:
    """The configuration of a test's daemon; `more_upstream` and `more_admin` are added to these tables."""

    upstream: str
    idle_timeout: str = "2s"
    connect_timeout: str = "2s"
    tag_ttl: str = "5m"
    max_size: str | None = None
    min_free: str = "1 MiB"
    drain_timeout: str = "5s"
    more_upstream: str = ""
    admin_endpoint: str = ""
    more_admin: str = ""
    more: str = ""

    def toml(self, store: Path, port: int, admin_port: int) -> str:
        """Return the configuration file."""
        max_size = f'max_size = "{self.max_size}"' if self.max_size else ""
        return f"""
drain_timeout = "{self.drain_timeout}"
[store]
path = {json.dumps(str(store))}
min_free = "{self.min_free}"
{max_size}
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[admin]
endpoint = "{self.admin_endpoint or f"tcp:{admin_port}:interface=127.0.0.1"}"
{self.more_admin}
[freshness]
tag_ttl = "{self.tag_ttl}"
[[upstream]]
name = "docker.io"
url = "{self.upstream}"
idle_timeout = "{self.idle_timeout}"
connect_timeout = "{self.connect_timeout}"
{self.more_upstream}
{self.more}
"""


@attrs.define(eq=False)
class Daemon:
    """A folder, two ports, and a process that can be killed and started again, below a `tracer` or not."""

    folder: Path
    settings: Settings
    environment: dict[str, str] = attrs.field(factory=dict)
    tracer: tuple[str, ...] = ()
    port: int = attrs.field(factory=free_port, init=False)
    admin_port: int = attrs.field(factory=free_port, init=False)
    _process: "subprocess.Popen[bytes] | None" = attrs.field(default=None, init=False)
    _log: IO[bytes] | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """The base URL of the admin listener."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def command_socket(self) -> Path:
        """The Unix socket that accepts commands."""
        return self.store / "command"

    @property
    def command_url(self) -> str:
        """The base URL of the commands, for `pull`."""
        return f"http+unix://{quote(str(self.command_socket), safe='')}"

    @property
    def is_settled(self) -> bool:
        """Whether no download is running, and every tag is stored with its manifest."""
        with urlopen(f"{self.admin_url}/status", timeout=30) as response:
            status = json.loads(response.read())
        listed = pull(f"{self.command_url}/repositories").body.splitlines()
        tags = [tag for repository in map(json.loads, listed) for tag in repository["tags"]]
        return not status["downloads"] and all(tag["is_held"] for tag in tags)

    def is_complete(self, reference: str) -> bool:
        """Return whether all of an image is stored, and confirmed for its repository."""
        explanation = json.loads(pull(f"{self.command_url}/why?reference={reference}").body)
        is_held = bool(explanation["manifest"] and explanation["manifest"]["is_held"])
        return is_held and {blob["state"] for blob in explanation["blobs"]} == {"held"}

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def log(self) -> str:
        """The log so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AssertionError("the daemon has not been started")
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status, or None while it is running."""
        return None if self._process is None else self._process.poll()

    def manifest(self, reference: str, repository: str = "library/app") -> str:
        """Return the URL of a manifest."""
        return f"{self.url}/v2/{repository}/manifests/{reference}"

    def blob(self, digest: str, repository: str = "library/app") -> str:
        """Return the URL of a blob."""
        return f"{self.url}/v2/{repository}/blobs/{digest}"

    def start(self) -> None:
        """Start the daemon, and wait until it responds to /v2/."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.write_config()
        self._log = (self.folder / "log").open("ab")
        twistd = str(Path(sys.executable).with_name("twistd"))
        self._process = subprocess.Popen(
            [*self.tracer, twistd, "--nodaemon", "--pidfile=", "mirrord", "--config", str(config)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._wait_for_response()

    def write_config(self) -> Path:
        """Write the configuration file from the current settings."""
        config = self.folder / "mirrord.toml"
        config.write_text(self.settings.toml(self.store, self.port, self.admin_port))
        return config

    def stop(self) -> None:
        """Stop the daemon by SIGTERM: it exits with status 0."""
        if not self.is_alive or self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("mirrord did not exit after SIGTERM") from None
        if status != 0:
            raise AssertionError(f"mirrord exited with status {status}:\n{self.log[-4000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._log is not None:
            self._log.close()

    def pss(self) -> int:
        """Return its proportional set size in bytes."""
        return self._memory("Pss")

    def anonymous_memory(self) -> int:
        """Return its memory without mapped files, whose proportional share depends on other processes."""
        return self._memory("Anonymous")

    def open_files(self) -> int:
        """Return the number of open file descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def disk_bytes(self) -> int:
        """Return the disk usage of its store."""
        done = subprocess.run(
            ["du", "-s", "--block-size=1", str(self.store)], capture_output=True, text=True, check=False
        )
        return int(done.stdout.split()[0])

    def bad_lines(self) -> list[str]:
        """Return the lines of the log that belong to a traceback or an unhandled error."""
        return [line for line in self.log.splitlines() if _BAD_LOG.search(line)]

    def _memory(self, field: str) -> int:
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        match = re.search(rf"^{field}:\s+(\d+) kB", rollup, re.MULTILINE)
        if match is None:
            raise AssertionError(f"smaps_rollup has no {field}")
        return int(match.group(1)) * 1024

    def _wait_for_response(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if not self.is_alive:
                raise AssertionError(f"mirrord did not start:\n{self.log[-4000:]}")
            if self._is_responding():
                return
            time.sleep(0.05)
        raise AssertionError(f"mirrord does not respond:\n{self.log[-4000:]}")

    def _is_responding(self) -> bool:
        """Return whether /v2/ is 200 or 401."""
        try:
            with urlopen(f"{self.url}/v2/", timeout=1) as response:
                return bool(response.status == 200)
        except HTTPError as error:
            with error:
                return error.status == 401
        except OSError:
            return False
