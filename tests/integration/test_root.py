"""Root's commands on a host whose service's user has been taken over, and the rights that commands need."""

import hashlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.daemon import Settings, free_port
from tests.integration.pushing import Pusher
from tests.integration.service_host import MEMBER, ROOT_USER, SERVICE, STRANGER, ServiceHost, missing


@skipIf(missing() is not None, missing() or "")
class HostCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.host = ServiceHost(folder / "host")
        self.addCleanup(self.host.stop_daemon)
        self.port = free_port()
        hosted = '[hosted]\nrepositories = ["team/*"]\npush_from_loopback = true\n'
        self.text = Settings("http://127.0.0.1:9", more=hosted).toml(
            Path("/var/cache/mirrord"), self.port, free_port()
        )
        self.host.configure(self.text)
        self.outside = folder / "outside"
        self.outside.mkdir(0o700)
        self.victim = self.outside / "victim"
        self.victim.write_text("root only")
        self.victim.chmod(0o600)

    def push(self, content: bytes = b"layer") -> None:
        """Push an image with one layer to the running daemon."""
        pusher = Pusher(self.port)
        self.addCleanup(pusher.close)
        pusher.push_image("team/app", "v1", content)

    def store_with_image(self) -> None:
        """Leave a store with one image, and no daemon."""
        self.host.start_daemon()
        self.push()
        self.host.stop_daemon()

    def plant(self, name: str, target: Path) -> None:
        """Put a link into the store, as the service's user can, in place of what is there."""
        path = self.host.store / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        os.chown(path, SERVICE.uid, SERVICE.gid, follow_symlinks=False)

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Poll until a condition is true; fail after half a minute."""
        deadline = time.monotonic() + 30
        while not is_true():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def assert_nothing_outside(self) -> None:
        """Check that nothing outside of the store was written, created or given away."""
        self.assertEqual([self.victim], list(self.outside.iterdir()))
        self.assertEqual("root only", self.victim.read_text())
        for path in (self.outside, self.victim):
            self.assertEqual((0, 0), (path.stat().st_uid, path.stat().st_mode & 0o077))


class CommandTests(HostCase):
    def test_the_socket_is_found(self) -> None:
        """Root, the service's user and a member of its group need no option; others are told what to do."""
        self.host.start_daemon()
        socket = self.host.folder / "run/mirrord/command"
        self.assertEqual((SERVICE.uid, SERVICE.gid), (socket.stat().st_uid, socket.stat().st_gid))
        self.assertEqual(0o660, socket.stat().st_mode & 0o7777)
        for user in (ROOT_USER, SERVICE, MEMBER):
            ended = self.host.mirrord("ls", user=user)
            self.assertEqual((0, ""), (ended.status, ended.err))
        refused = self.host.mirrord("rm", "team/app", user=STRANGER)
        self.assertEqual((1, 1), (refused.status, len(refused.err.splitlines())), refused)
        self.assertIn("try again with sudo, or as a member of the group mirrord", refused.err)
        self.assertEqual(0, self.host.mirrord("status", user=STRANGER).status)
        log = (self.host.folder / "log").read_text()
        for uid in (0, SERVICE.uid, MEMBER.uid):
            self.assertIn(f"command of user {uid}, process ", log)
        self.assertNotIn(f"command of user {STRANGER.uid}", log)

    def test_planted_socket(self) -> None:
        """A link in place of the socket does not lead root's command to another socket."""
        self.host.start_daemon()
        folder = self.host.folder / "run/mirrord"
        (folder / "command").rename(folder / "other")
        (folder / "command").symlink_to("other")
        self.assertEqual(3, self.host.mirrord("pull", "app").status)
        self.assertNotIn("POST /pull", (self.host.folder / "log").read_text())

    def test_without_a_daemon(self) -> None:
        """Without a daemon, root's command and the daemon that it starts run as the owner of the store."""
        self.store_with_image()
        listed = self.host.mirrord("ls", "hosted/*")
        self.assertEqual(0, listed.status, listed)
        self.assertIn("team/app", listed.out)
        words = [sys.executable, "-c", "from mirrord.cli.main import main; main()", "verify"]
        with self.host.open(words) as command:
            self.wait_until(lambda: bool(daemons_of(command.pid)))
            (daemon,) = daemons_of(command.pid)
            self.assertEqual([{SERVICE.uid}] * 2, [uids_of(command.pid), uids_of(daemon)])
            self.assertEqual(0, command.wait(60))

    def test_planted_index(self) -> None:
        """A command without a daemon neither reads nor writes an index that only root can read."""
        self.store_with_image()
        database = self.outside / "victim"
        database.unlink()
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE secrets (content)")
        before = database.read_bytes()
        self.plant("index.sqlite", database)
        for arguments in (["ls"], ["gc"], ["verify"], ["rm", "team/app"], ["why", "team/app"]):
            self.assertNotEqual(0, self.host.mirrord(*arguments).status)
        self.assertEqual((before, [database]), (database.read_bytes(), list(self.outside.iterdir())))


class CopyTests(HostCase):
    def setUp(self) -> None:
        super().setUp()
        self.store_with_image()
        self.target = self.outside.with_name("backup")

    def test_round_trip(self) -> None:
        """Root backs up into a folder of its own, and restores into a store, as the owner of each."""
        ended = self.host.mirrord("backup", str(self.target))
        self.assertEqual(0, ended.status, ended)
        self.assertEqual(0, self.target.stat().st_uid)
        (snapshot,) = self.target.glob("hosted.snapshot-*")
        self.assertEqual((0, 0o600), (snapshot.stat().st_uid, snapshot.stat().st_mode & 0o7777))
        for path in self.host.store.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        restored = self.host.mirrord("restore", str(self.target), "--json")
        self.assertEqual(0, restored.status, restored)
        self.assertEqual(3, json.loads(restored.lines[-1])["copied"])
        owners = {path.stat().st_uid for path in self.host.store.rglob("*")}
        self.assertEqual({SERVICE.uid}, owners)
        self.assertIn("team/app", self.host.mirrord("ls", "hosted/*").out)

    def test_restore_through_links(self) -> None:
        """Links that the service's user has left in the store lead a restore nowhere."""
        self.assertEqual(0, self.host.mirrord("backup", str(self.target), "--copy").status)
        for name, target in (
            ("hosted", self.outside),
            ("hosted/blobs", self.outside),
            ("hosted/manifests", self.outside),
            ("hosted/scratch", self.outside),
            ("lock", self.victim),
            ("lock", self.outside / "new"),
            ("index.sqlite", self.victim),
            ("index.sqlite", self.outside / "new"),
            ("index.sqlite-wal", self.victim),
            ("index.sqlite-shm", self.victim),
        ):
            kept = self.host.folder / "kept"
            shutil.copytree(self.host.store, kept, symlinks=True)
            for path in (kept, *kept.rglob("*")):
                os.chown(path, SERVICE.uid, SERVICE.gid, follow_symlinks=False)
            self.plant(name, target)
            self.host.mirrord("restore", str(self.target))
            self.assert_nothing_outside()
            shutil.rmtree(self.host.store)
            kept.rename(self.host.store)

    def test_store_that_is_a_link(self) -> None:
        """A store that the service's user has replaced by a link to a folder of root's is not written."""
        self.assertEqual(0, self.host.mirrord("backup", str(self.target), "--copy").status)
        self.host.configure(self.text.replace("/var/cache/mirrord", "/var/cache/mirrord/deep"))
        self.plant("deep", self.outside)
        self.assertEqual(1, self.host.mirrord("restore", str(self.target)).status)
        self.assert_nothing_outside()

    def test_backup_through_links(self) -> None:
        """A backup contains no file that only root can read, whatever name in the store leads to it."""
        secret = b"root's content, whose digest is known"
        self.host.start_daemon()
        self.push(secret)
        self.host.stop_daemon()
        digest = hashlib.sha256(secret).hexdigest()
        self.victim.write_bytes(secret)
        self.plant(f"hosted/blobs/sha256/{digest[:2]}/{digest}", self.victim)
        ended = self.host.mirrord("backup", str(self.target))
        self.assertEqual(1, ended.status)
        self.assertIn(f"blob sha256:{digest} is corrupt and was skipped", ended.out)
        self.assertEqual([], list(self.target.rglob(digest)))
        folder = self.outside / digest[:2]
        folder.mkdir()
        self.victim.rename(folder / digest)
        self.plant(f"hosted/blobs/sha256/{digest[:2]}", folder)
        self.assertEqual(1, self.host.mirrord("backup", str(self.target)).status)
        self.assertEqual([], list(self.target.rglob(digest)))

    def test_backup_of_a_planted_index(self) -> None:
        """A backup does not copy an index that only root can read."""
        self.victim.unlink()
        shutil.copyfile(self.host.store / "index.sqlite", self.victim)
        self.victim.chmod(0o600)
        self.plant("index.sqlite", self.victim)
        self.assertNotEqual(0, self.host.mirrord("backup", str(self.target)).status)
        self.assertEqual([], list(self.target.glob("hosted.snapshot-*")))


class OtherTests(HostCase):
    def test_certificate_through_a_link(self) -> None:
        """A certificate is not written into a folder of root's by a link of the service's user."""
        state = self.host.folder / "var/lib/mirrord"
        (state / "tls").symlink_to(self.outside)
        os.chown(state / "tls", SERVICE.uid, SERVICE.gid, follow_symlinks=False)
        self.assertEqual(1, self.host.mirrord("self-signed", "a.lan", "--out", "/var/lib/mirrord/tls").status)
        self.assert_nothing_outside()
        self.assertEqual(0, self.host.mirrord("self-signed", "a.lan").status)
        key = self.host.folder / "etc/mirrord/tls/privkey.pem"
        self.assertEqual((SERVICE.uid, 0o600), (key.stat().st_uid, key.stat().st_mode & 0o777))

    def test_doctor(self) -> None:
        """Run by root, the doctor reads files as the service does, and reports what it may not."""
        rules = f'[access]\nhtpasswd = "{self.victim}"\n[[access.rules]]\nrepositories = ["*"]\n'
        self.host.configure(self.text + rules)
        self.outside.chmod(0o755)
        checked = self.host.mirrord("doctor", "--json")
        found = [json.loads(line) for line in checked.lines]
        (denied,) = [each for each in found if "access.htpasswd" in each["text"]]
        self.assertEqual("fail", denied["level"])
        self.assertIn("Permission denied", denied["text"])
        self.assertIn("allow the user mirrord to read it", denied["advice"])


def daemons_of(pid: int) -> list[int]:
    """Return the daemons that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"twistd" in Path(f"/proc/{child}/cmdline").read_bytes()]


def uids_of(pid: int) -> set[int]:
    """Return the real, effective, saved and file system user of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("Uid:")]
    return set(map(int, line.split()[1:]))
