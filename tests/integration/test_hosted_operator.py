"""The operator's commands on hosted repositories, with a daemon and without one."""

import json
import os
import shutil
import threading
from pathlib import Path
from urllib.request import urlopen

from tests.integration.command import Ended, mirrord
from tests.integration.pushing import EMPTY_CONFIG, PUSHABLE, HostedCase, Pusher, digest_of

_RULES = f"""{PUSHABLE}repositories = ["conf/*"]
delete = false
[[hosted.keep]]
repositories = ["conf/test_retention"]
newest = 1
"""


class OperatorCase(HostedCase):
    hosted = _RULES

    def mirrord(self, *arguments: str) -> Ended:
        """Run a command on the daemon's configuration."""
        config = str(self.daemon.folder / "mirrord.toml")
        return mirrord(*arguments, "--config", config, home=self.folder)

    def succeed(self, *arguments: str) -> list[str]:
        """Run a command that succeeds, and return the lines of its output."""
        ended = self.mirrord(*arguments)
        self.assertEqual(0, ended.status, f"{ended.out}{ended.err}")
        return ended.lines

    def path_of(self, content: bytes, kind: str = "blobs") -> Path:
        """Return the path of hosted content."""
        algorithm, _, digits = digest_of(content).partition(":")
        return self.daemon.store / "hosted" / kind / algorithm / digits[:2] / digits


class CommandTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.pushed = self.pusher.push_image(self.repository, "v1", b"layer of " + self.id().encode())

    def test_inspection(self) -> None:
        """A hosted repository is listed by its name, explained, and verified."""
        listed, tag = self.succeed("ls", f"hosted/{self.repository}")
        self.assertRegex(listed, f"^{self.repository}  hosted, .* in 2 blobs, pushed just now$")
        self.assertIn("pushed just now", tag)
        self.assertEqual(
            [self.repository], [json.loads(self.succeed("ls", self.repository, "--json")[0])["name"]]
        )

        output = "\n".join(self.succeed("why", f"{self.repository}:v1"))
        self.assertIn(f"hosted:     repository {self.repository}", output)
        self.assertIn("2 stored", output)
        self.assertNotIn("not served", output)

        self.assertRegex(self.succeed("verify")[-1], "no errors$")

    def test_removal(self) -> None:
        """An operator removes what clients may not delete: a tag, then the whole repository."""
        path = self.path("manifests", "v1")
        self.assertEqual(405, self.pusher.request("DELETE", path).status)
        self.assertEqual(
            [
                f"removed {self.repository}:v1",
                f"removed {digest_of(self.pushed)}",
                "the next sweep will free the space",
            ],
            self.succeed("rm", f"{self.repository}:v1"),
        )
        self.assertEqual(404, self.pusher.request("HEAD", path).status)
        self.assertEqual(200, self.pusher.request("HEAD", self.path("blobs", digest_of(EMPTY_CONFIG))).status)
        self.succeed("rm", self.repository)
        self.assertEqual(404, self.pusher.request("HEAD", self.path("blobs", digest_of(EMPTY_CONFIG))).status)
        self.assertEqual(4, self.mirrord("rm", self.repository).status)

    def test_retention(self) -> None:
        """A dry run lists what a retention rule would delete, with the rule; the sweep then deletes it."""
        self.pusher.push_image(self.repository, "v2", b"newer")
        planned = self.succeed("gc", "--dry-run")
        self.assertIn(f"tag       {self.repository}:v1  hosted.keep[0]", planned)
        self.assertIn(f"manifest  {self.repository}@{digest_of(self.pushed)}  hosted.keep[0]", planned)
        self.assertIn("would delete 1 tag, 1 manifest of hosted repositories", planned)
        self.assertIn("deleted 1 tag, 1 manifest of hosted repositories", self.succeed("gc"))
        self.assertEqual(404, self.pusher.request("HEAD", self.path("manifests", "v1")).status)
        self.assertEqual(200, self.pusher.request("HEAD", self.path("manifests", "v2")).status)

    def test_lost(self) -> None:
        """Corrupt content is listed with its repositories, and verify fails until it is pushed again."""
        corrupt = b"layer of " + self.id().encode()
        self.path_of(corrupt).write_bytes(corrupt[::-1])
        found = self.mirrord("verify")
        self.assertEqual(1, found.status)
        self.assertIn(f"blob {digest_of(corrupt)} is corrupt; used by {self.repository}", found.out)
        again = self.mirrord("verify")
        self.assertIn(f"blob {digest_of(corrupt)} is missing; used by", again.out)
        self.assertIn("push it again", "\n".join(self.succeed("why", f"{self.repository}:v1")))

        self.pusher.push_blob(self.repository, corrupt)
        self.assertRegex(self.succeed("verify")[-1], "no errors$")
        self.assert_blob(corrupt)

    def test_status(self) -> None:
        """Hosted content and open uploads are in the status and the metrics."""
        self.pusher.begin(self.repository)
        hosted = json.loads(self.succeed("status", "--json")[0])["hosted"]
        self.assertGreaterEqual(hosted["entries"], 3)
        self.assertGreaterEqual(hosted["uploads"], 1)
        with urlopen(f"{self.daemon.admin_url}/metrics", timeout=10) as response:
            metrics = dict(line.rsplit(" ", 1) for line in response.read().decode().splitlines())
        for name, value in (
            ("uploads_open", "uploads"),
            ("hosted_bytes", "bytes"),
            ("hosted_entries", "entries"),
        ):
            self.assertEqual(float(hosted[value]), float(metrics[f"mirrord_{name}"]))


class BackupTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = self.folder / f"backup-{self.id().rpartition('.')[2]}"

    def push_on(self, stop: threading.Event, pushed: list[tuple[str, bytes]]) -> None:
        """Push one image after another until `stop` is set."""
        pusher = Pusher(self.daemon.port)
        while not stop.is_set():
            tag = f"n{len(pushed)}"
            pushed.append((tag, pusher.push_image(self.repository, tag, f"{self.id()} {tag}".encode())))
        pusher.close()

    def test_backup_while_pushing(self) -> None:
        """A store restored from a backup serves all content that was pushed before the backup began."""
        pushed: list[tuple[str, bytes]] = []
        stop = threading.Event()
        pushing = threading.Thread(target=self.push_on, args=(stop, pushed))
        pushing.start()
        try:
            first = json.loads(self.succeed("backup", str(self.target), "--json")[-1])
            before = list(pushed)
            second = json.loads(self.succeed("backup", str(self.target), "--json", "--copy")[-1])
        finally:
            stop.set()
            pushing.join()
        self.assertEqual(("done", 0), (first["event"], second["lost"]))
        self.assertLess(second["copied"], second["entries"])

        in_use = self.mirrord("restore", str(self.target))
        self.assertEqual((1, 1), (in_use.status, len(in_use.err.splitlines())), in_use.err)
        self.assertIn("systemctl stop mirrord", in_use.err)

        self.daemon.stop()
        shutil.rmtree(self.daemon.store)
        self.assertRegex(self.succeed("restore", str(self.target))[-1], r"^\d+ entries, .* copied in")
        self.assertRegex(self.succeed("verify")[-1], "no errors$")
        self.daemon.start()

        self.assertGreater(len(before), 0)
        for tag, manifest in before:
            self.assert_manifest(tag, manifest)
            self.assert_blob(f"{self.id()} {tag}".encode())
        self.assert_blob(EMPTY_CONFIG)
        self.assertRegex(self.succeed("verify")[-1], "no errors$")

    def test_generations(self) -> None:
        """What was deleted before the last backup can be restored from the generation before it."""
        self.target.mkdir()
        (self.target / "coming").write_bytes(b"left by a backup that was killed")
        for number in range(9):
            self.pusher.push_blob(f"{self.repository}/other", b"%d" % number * 1000)
        manifest = self.pusher.push_image(self.repository, "v1", b"deleted by mistake")
        self.succeed("backup", str(self.target), "--copy")
        self.succeed("rm", self.repository)
        self.succeed("backup", str(self.target), "--copy")
        self.assertEqual({"hosted.snapshot-1", "hosted.snapshot-2"}, self.generations())

        earlier = self.folder / "earlier"
        shutil.copytree(self.target, earlier)
        (earlier / "hosted.snapshot-2").unlink()
        self.daemon.stop()
        self.succeed("restore", str(earlier))
        self.daemon.start()
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)
        self.assert_manifest("v1", manifest)
        self.assert_blob(b"deleted by mistake")

    def generations(self) -> set[str]:
        """Return the names of the files of a backup that are neither content nor its lock."""
        return {path.name for path in self.target.iterdir() if path.is_file()} - {"backup.lock"}

    def test_shrinking(self) -> None:
        """A store that has shrunk by half is not backed up, unless earlier generations are to be deleted."""
        large = self.id().encode() * 100_000
        self.pusher.push_blob(self.repository, large)
        self.succeed("backup", str(self.target))
        self.succeed("rm", self.repository)
        refused = self.mirrord("backup", str(self.target))
        self.assertEqual((1, 1), (refused.status, len(refused.err.splitlines())), refused.err)
        self.assertIn("--prune", refused.err)
        kept = self.target / self.path_of(large).relative_to(self.daemon.store / "hosted")
        self.assertEqual(({"hosted.snapshot-1"}, True), (self.generations(), kept.exists()))

        self.assertIn(", 1 removed", self.succeed("backup", str(self.target), "--prune")[-1])
        self.assertEqual(({"hosted.snapshot-2"}, False), (self.generations(), kept.exists()))

    def test_a_hosted_folder_elsewhere(self) -> None:
        """A backup is not put into the folder of hosted repositories, wherever that is."""
        elsewhere = self.folder / "elsewhere"
        config = self.folder / "elsewhere.toml"
        config.write_text(f'[store]\npath = "{self.daemon.store}"\n[hosted]\npath = "{elsewhere}"\n', "utf-8")
        ended = mirrord("backup", str(elsewhere / "backup"), "--config", str(config), home=self.folder)
        self.assertEqual((1, 1), (ended.status, len(ended.err.splitlines())), ended.err)
        self.assertIn("use a separate directory", ended.err)

    def test_damaged_backup(self) -> None:
        """Corrupt content of a backup is listed and skipped; the command fails, and the rest is restored."""
        whole, damaged = (f"{word} {self.id()}".encode() for word in ("whole", "damaged"))
        for content in (whole, damaged):
            self.pusher.push_blob(self.repository, content)
        self.succeed("backup", str(self.target), "--copy")
        self.daemon.stop()
        shutil.rmtree(self.daemon.store)
        (self.target / self.path_of(damaged).relative_to(self.daemon.store / "hosted")).write_bytes(
            damaged[::-1]
        )

        ended = self.mirrord("restore", str(self.target))

        self.assertEqual(1, ended.status)
        self.assertIn(f"blob {digest_of(damaged)} is corrupt and was skipped", ended.out)
        self.daemon.start()
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)
        self.assert_blob(whole)
        self.assertEqual(404, self.pusher.request("HEAD", self.path("blobs", digest_of(damaged))).status)

    def test_owner(self) -> None:
        """Everything that root restores belongs to the owner of the store's folder."""
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        self.pusher.push_image(self.repository, "v1", b"owned")
        self.succeed("backup", str(self.target), "--copy")
        self.daemon.stop()
        store = self.daemon.store
        shutil.rmtree(store)
        store.mkdir(0o700)
        for folder in (self.folder, store.parent):
            folder.chmod(0o711)  # restore acts as the owner of the store, who has to reach it
        os.chown(store, 12_345, 12_346)
        try:
            self.succeed("restore", str(self.target))
            self.assertEqual(
                {(12_345, 12_346)},
                {(found.st_uid, found.st_gid) for found in map(os.lstat, (store, *store.rglob("*")))},
            )
            self.assertEqual({0}, {path.stat().st_uid for path in self.target.rglob("*")})
        finally:
            for path in (store, *store.rglob("*")):
                os.chown(path, 0, 0)
            self.daemon.start()

    def test_wrong_folders(self) -> None:
        """A folder without a backup is not restored, and a store is not used as a backup."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        for status, message, *arguments in (
            (4, "there is no backup", "restore", str(empty)),
            (1, "use a separate directory", "backup", str(self.daemon.store)),
            (1, "use a separate directory", "backup", str(self.daemon.store / "inside")),
        ):
            ended = self.mirrord(*arguments)
            self.assertEqual((status, 1), (ended.status, len(ended.err.splitlines())), ended.err)
            self.assertIn(message, ended.err)
