"""An operator's day: the commands before a real daemon, and while none runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.fakes.apart import Stored
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
        """Run a command; the upstreams that are not ours are out of its reach, and its stand-in's."""
        return mirrord(
            *arguments, "--config", str(self.daemon.folder / "mirrord.toml"), home=self.folder,
            HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1",
        )  # fmt: skip

    def assert_well(self, ended: Ended) -> None:
        self.assertEqual(ended.status, 0, f"{ended.out}{ended.err}")

    def path_of(self, stored: Stored) -> Path:
        """Where the store keeps a blob."""
        algorithm, _, digits = stored.digest.partition(":")
        return self.daemon.store / "blobs" / algorithm / digits[:2] / digits

    def damage(self, stored: Stored) -> None:
        """Change one byte of a blob at rest."""
        with self.path_of(stored).open("r+b") as file:
            file.write(b"\xff" if file.read(1) == b"\x00" else b"\x00")


class DayTests(OperatorCase):
    def test_a_day(self) -> None:
        """An image is pulled ahead, listed, explained, verified, swept and removed."""
        pulled = self.mirrord("pull", "app:latest")
        self.assert_well(pulled)
        self.assertIn(f"docker.io/library/app@{self.image.manifest.digest}", pulled.out)
        self.assertEqual(pulled.out.count(" fetched\n"), 3, pulled.out)
        self.assertEqual(self.mirrord("pull", "app").out.count(" held already\n"), 3)
        self.registry.down()
        listed = self.mirrord("ls")
        self.assert_well(listed)
        self.assertIn("app  ", listed.lines[0])
        self.assertIn("latest  ", listed.lines[1])
        explained = self.mirrord("why", "app")
        self.assert_well(explained)
        self.assertIn("3 held", explained.out)
        self.assertRegex(self.mirrord("verify").out, "^4 entries, .* hashed in .*: all whole$")
        self.assertIn("0 entries would go", self.mirrord("gc", "--dry-run").out)
        self.assert_well(self.mirrord("gc"))
        removed = self.mirrord("rm", "app:latest")
        self.assert_well(removed)
        self.assertIn("removed app:latest", removed.out)
        self.assertEqual(self.mirrord("rm", "app:latest").status, 4)

    def test_damage(self) -> None:
        """What has rotted at rest is set aside, and fetched again."""
        self.assert_well(self.mirrord("pull", "app"))
        self.damage(self.image.layer)
        verified = self.mirrord("verify")
        self.assert_well(verified)
        self.assertIn(f"blob {self.image.layer.digest} is damaged", verified.out)
        self.assertIn("1 of them fetched again", verified.out)
        self.assert_right(pull(self.daemon.blob(self.image.layer.digest)), self.image.layer)

    def test_loss(self) -> None:
        """What has rotted while its upstream is away is lost for now, and verify ends with 1."""
        self.assert_well(self.mirrord("pull", "app"))
        self.damage(self.image.layer)
        self.registry.down()
        self.assertEqual(self.mirrord("verify").status, 1)

    def test_a_tag_that_is_none(self) -> None:
        """A pull of what the upstream does not have ends with 1 and its reason."""
        ended = self.mirrord("pull", "app:nope")
        self.assertEqual(ended.status, 1)
        self.assertTrue(ended.err.startswith("mirrord: app:nope: "), ended.err)
        self.assertNotIn("Traceback", ended.err)

    def test_status(self) -> None:
        """The status says what is held."""
        self.assert_well(self.mirrord("pull", "app"))
        status = json.loads(self.mirrord("status", "--json").out)
        self.assertGreater(status["store"]["bytes"], 320_000)
        self.assert_well(self.mirrord("status"))


class StandInTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.assert_well(self.mirrord("pull", "app"))
        self.daemon.stop()

    def test_without_a_daemon(self) -> None:
        """While no daemon runs the same commands do the same, and leave the store to the next daemon."""
        listed = self.mirrord("ls")
        self.assert_well(listed)
        self.assertIn("no daemon runs", listed.err)
        self.assertIn("latest", listed.out)
        self.damage(self.image.layer)
        self.assertIn("1 of them fetched again", self.mirrord("verify").out)
        self.assert_well(self.mirrord("why", "app"))
        self.assert_well(self.mirrord("gc"))
        self.assert_well(self.mirrord("rm", "app"))
        self.assertEqual(self.mirrord("ls", "app").status, 4)
        self.daemon.start()

    def test_one_at_a_time(self) -> None:
        """A store that a daemon has, which answers elsewhere, is left alone."""
        other = Daemon(self.folder / "other", self.daemon.settings)
        self.addCleanup(other.kill)
        other.folder.mkdir()
        (other.folder / "store").symlink_to(self.daemon.store)
        other.start()
        ended = self.mirrord("ls")
        self.assertEqual(ended.status, 3, ended)
        self.assertIn("in use", ended.err)
        self.assertNotIn("Traceback", ended.err)

    def test_pull_needs_a_daemon(self) -> None:
        """What only a daemon does ends with 3 while none runs."""
        for command in (["pull", "app"], ["status"]):
            self.assertEqual(self.mirrord(*command).status, 3)

    def test_nothing_is_left_over(self) -> None:
        """A command that is killed takes its stand-in with it."""
        code = "from mirrord.cli.main import main; main()"
        config = str(self.daemon.folder / "mirrord.toml")
        with subprocess.Popen(
            [sys.executable, "-c", code, "verify", "--config", config],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as command:
            self.wait_until(lambda: bool(twistds_of(command.pid)), what="its stand-in")
            (stand_in,) = twistds_of(command.pid)
            command.send_signal(signal.SIGKILL)
        self.wait_until(lambda: not is_alive(stand_in), what="the end of its stand-in")
        self.daemon.start()


def twistds_of(pid: int) -> list[int]:
    """The daemons that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"twistd" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_alive(pid: int) -> bool:
    """Whether a process runs; who has ended and is not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
