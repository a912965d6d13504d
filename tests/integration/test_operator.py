"""The operator's commands with a real daemon, and without one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs

from tests.fakes.registry_process import Stored
from tests.integration.case import MirrorCase
from tests.integration.client import pull
from tests.integration.command import Ended, mirrord
from tests.integration.daemon import Daemon


class OperatorCase(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.image = self.registry.put_image(300_000, 20_000, repository="library/app")
        self.daemon = self.start_daemon()

    def mirrord(self, *arguments: str) -> Ended:
        """Run a command; it and its offline daemon cannot reach real upstreams."""
        return mirrord(
            *arguments, "--config", str(self.daemon.folder / "mirrord.toml"), home=self.folder,
            HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1",
        )  # fmt: skip

    def assert_well(self, ended: Ended) -> None:
        self.assertEqual(ended.status, 0, f"{ended.out}{ended.err}")

    def pull_image(self) -> None:
        """Pull the image ahead of time, and wait until it is stored."""
        self.assert_well(self.mirrord("pull", "app"))
        self.wait_until_settled(self.daemon)

    def path_of(self, stored: Stored) -> Path:
        """Return the path of a blob in the store."""
        algorithm, _, digits = stored.digest.partition(":")
        return self.daemon.store / "blobs" / algorithm / digits[:2] / digits

    def damage(self, stored: Stored) -> None:
        """Change one byte of a stored blob."""
        with self.path_of(stored).open("r+b") as file:
            file.write(b"\xff" if file.read(1) == b"\x00" else b"\x00")


class DayTests(OperatorCase):
    def test_a_day(self) -> None:
        """An image is pulled ahead of time, listed, explained, verified, swept and removed."""
        pulled = self.mirrord("pull", "app:latest")
        self.assert_well(pulled)
        self.assertIn(f"docker.io/library/app@{self.image.manifest.digest}", pulled.out)
        self.assertEqual(pulled.out.count(" downloaded\n"), 3, pulled.out)
        self.assertEqual(self.mirrord("pull", "app").out.count(" already cached\n"), 3)
        self.wait_until_settled(self.daemon)
        self.registry.down()
        listed = self.mirrord("ls")
        self.assert_well(listed)
        self.assertIn("app  ", listed.lines[0])
        self.assertIn("latest  ", listed.lines[1])
        explained = self.mirrord("why", "app")
        self.assert_well(explained)
        self.assertIn("3 stored", explained.out)
        self.assertRegex(self.mirrord("verify").out, "^4 entries, .* hashed in .*: no errors$")
        self.assertIn("would evict 0 entries", self.mirrord("gc", "--dry-run").out)
        self.assert_well(self.mirrord("gc"))
        removed = self.mirrord("rm", "app:latest")
        self.assert_well(removed)
        self.assertIn("removed app:latest", removed.out)
        self.assertEqual(self.mirrord("rm", "app:latest").status, 4)

    def test_damage(self) -> None:
        """Corrupt content is quarantined and downloaded again."""
        self.pull_image()
        self.damage(self.image.layer)
        verified = self.mirrord("verify")
        self.assert_well(verified)
        self.assertIn(f"blob {self.image.layer.digest} is corrupt", verified.out)
        self.assertIn("1 downloaded again", verified.out)
        self.assert_right(pull(self.daemon.blob(self.image.layer.digest)), self.image.layer)

    def test_loss(self) -> None:
        """If the upstream is down, corrupt content is lost for now, and verify exits with 1."""
        self.pull_image()
        self.damage(self.image.layer)
        self.registry.down()
        self.assertEqual(self.mirrord("verify").status, 1)

    def test_unknown_tag(self) -> None:
        """A pull of a tag that the upstream does not have exits with 1 and the reason."""
        ended = self.mirrord("pull", "app:nope")
        self.assertEqual(ended.status, 1)
        self.assertTrue(ended.err.startswith("mirrord: app:nope: "), ended.err)
        self.assertNotIn("Traceback", ended.err)

    def test_status(self) -> None:
        """The status has the size of the store."""
        self.pull_image()
        status = json.loads(self.mirrord("status", "--json").out)
        self.assertGreater(status["store"]["bytes"], 320_000)
        self.assert_well(self.mirrord("status"))


class OfflineTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.pull_image()
        self.daemon.stop()

    def test_without_a_daemon(self) -> None:
        """Without a daemon the commands work on the store, and release it afterwards."""
        listed = self.mirrord("ls")
        self.assert_well(listed)
        self.assertIn("no daemon is running", listed.err)
        self.assertIn("latest", listed.out)
        self.damage(self.image.layer)
        self.assertIn("1 downloaded again", self.mirrord("verify").out)
        self.assert_well(self.mirrord("why", "app"))
        self.assert_well(self.mirrord("gc"))
        self.assert_well(self.mirrord("rm", "app"))
        self.assertEqual(self.mirrord("ls", "app").status, 4)
        self.daemon.start()

    def test_one_at_a_time(self) -> None:
        """A store in use by a daemon with another socket is not opened."""
        elsewhere = attrs.evolve(self.daemon.settings, more_admin=f'socket = "{self.folder}/elsewhere"')
        other = Daemon(self.folder / "other", elsewhere)
        self.addCleanup(other.kill)
        other.folder.mkdir()
        (other.folder / "store").symlink_to(self.daemon.store)
        other.start()
        ended = self.mirrord("ls")
        self.assertEqual(ended.status, 3, ended)
        self.assertIn("in use", ended.err)
        self.assertNotIn("Traceback", ended.err)

    def test_pull_needs_a_daemon(self) -> None:
        """Commands that need the daemon exit with 3 without it."""
        for command in (["pull", "app"], ["status"]):
            self.assertEqual(self.mirrord(*command).status, 3)

    def test_killed_command(self) -> None:
        """The offline daemon of a killed command stops."""
        code = "from mirrord.cli.main import main; main()"
        config = str(self.daemon.folder / "mirrord.toml")
        with subprocess.Popen(
            [sys.executable, "-c", code, "verify", "--config", config],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as command:
            self.wait_until(lambda: bool(twistds_of(command.pid)), what="its daemon")
            (daemon,) = twistds_of(command.pid)
            command.send_signal(signal.SIGKILL)
        self.wait_until(lambda: not is_alive(daemon), what="the end of its daemon")
        self.daemon.start()


def twistds_of(pid: int) -> list[int]:
    """Return the daemons that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"twistd" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_alive(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
