"""A daemon with socket activation, as under mirrord.socket; the test takes the place of systemd."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import attrs

from tests.integration.daemon import ROOT, Settings, free_port

_NOTICE_SECONDS = 60.0
_STOP_SECONDS = 60.0

# sd_listen_fds(3): the sockets begin at descriptor 3, and LISTEN_PID is the process they are for.
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "mirrord", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


@attrs.define(eq=False)
class ActivatedDaemon:
    """A port that stays open while the daemon behind it is restarted."""

    folder: Path
    settings: Settings
    client_endpoint: str = "systemd:domain=INET:name=mirrord"
    port: socket.socket = attrs.field(init=False)
    _notices: socket.socket = attrs.field(init=False)
    _process: "subprocess.Popen[bytes] | None" = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(self.folder / "notify"))
        self._notices.settimeout(0.5)
        text = self.settings.toml(self.folder / "store", 0, free_port())
        own_port = "tcp:0:interface=127.0.0.1"
        self._config.write_text(text.replace(own_port, self.client_endpoint))

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port.getsockname()[1]}"

    @property
    def log(self) -> str:
        """The log of all daemons so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def _config(self) -> Path:
        return self.folder / "mirrord.toml"

    def start(self) -> None:
        """Start a daemon, and wait until it reports that it is ready."""
        fd = self.port.fileno()
        twistd = str(Path(sys.executable).with_name("twistd"))
        daemon = [twistd, "--nodaemon", "--pidfile=", "mirrord", "--config", str(self._config)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ACTIVATE, str(fd), *daemon],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(self.folder / "notify")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(fd,),
            )
        self._wait_for_notice("READY=1")

    def stop(self) -> None:
        """Stop the daemon by SIGTERM: it reports that it is stopping, and exits with status 0."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self._wait_for_notice("STOPPING=1")
        status = self._process.wait(_STOP_SECONDS)
        if status != 0:
            raise AssertionError(f"mirrord exited with status {status}:\n{self.log[-4000:]}")
        self._process = None

    def close(self) -> None:
        """Kill the daemon and close the sockets."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.port.close()
        self._notices.close()

    def _wait_for_notice(self, notice: str) -> None:
        deadline = time.monotonic() + _NOTICE_SECONDS
        while time.monotonic() < deadline and self._process is not None:
            with contextlib.suppress(TimeoutError):
                if notice in self._notices.recv(4096).decode().splitlines():
                    return
                continue
            if self._process.poll() is not None:
                break
        raise AssertionError(f"mirrord did not send {notice}:\n{self.log[-4000:]}")
