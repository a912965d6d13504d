import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration.case import MirrorCase
from tests.integration.daemon import ROOT, Daemon, Settings


class StartTests(MirrorCase):
    def _twistd(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [
            str(Path(sys.executable).with_name("twistd")),
            "--nodaemon",
            "--pidfile=",
            "mirrord",
            *arguments,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.folder), **variables}
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _assert_rejected(self, ended: "subprocess.CompletedProcess[str]", word: str) -> None:
        output = ended.stdout + ended.stderr
        self.assertEqual(ended.returncode, 1, output)
        self.assertNotIn("Traceback", output)
        self.assertEqual(len([line for line in output.splitlines() if word in line]), 1, output)

    def test_a_bad_key_is_named(self) -> None:
        """With an invalid value the exit status is 1, and one line of the output names the key."""
        config = self.folder / "bad.toml"
        config.write_text('[gc]\ninterval = "soon"\n')
        self._assert_rejected(self._twistd("--config", str(config)), "gc.interval")
        self._assert_rejected(self._twistd("--check", "--config", str(config)), "gc.interval")

    def test_a_bad_proxy_of_the_environment_is_named(self) -> None:
        """An invalid proxy in the environment fails start and check; its password is not printed."""
        for arguments in ((), ("--check",)):
            ended = self._twistd(*arguments, HTTPS_PROXY="socks5://me:hunter2@proxy:1080")
            self._assert_rejected(ended, "HTTPS_PROXY")
            self.assertNotIn("hunter2", ended.stdout + ended.stderr)

    def test_a_taken_port_is_named(self) -> None:
        """With a port in use the exit status is 1, and one line of the output names the port."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            store = str(self.folder / "store")
            endpoint = f"tcp:{port}:interface=127.0.0.1"
            ended = self._twistd(
                "--listen", endpoint, "--store", store, "--admin", "tcp:0:interface=127.0.0.1"
            )
        self._assert_rejected(ended, str(port))

    def test_a_good_configuration_is_shown(self) -> None:
        """A check of a valid configuration prints the effective one, and exits with 0."""
        config = self.folder / "good.toml"
        config.write_text(Settings(self.registry.url).toml(self.folder / "store", 5055, 5056))
        ended = self._twistd("--check", "--config", str(config))
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn(self.registry.url, ended.stdout)

    def test_an_interrupt_stops_it(self) -> None:
        """On Control-C the daemon exits with status 0, as on SIGTERM."""
        daemon: Daemon = self.start_daemon()
        os.kill(daemon.pid, signal.SIGINT)
        self.wait_until(lambda: not daemon.is_alive, what="the exit")
        self.assertEqual(daemon.status, 0)
