"""`mirrord repair`: a daemon that a damaged journal keeps from starting."""

import json
import time
from pathlib import Path
from urllib.request import urlopen

from tests.integration.command import Ended, mirrord
from tests.integration.pushing import HostedCase, Pusher, digest_of


class RepairTests(HostedCase):
    def setUp(self) -> None:
        super().setUp()
        self.hosted_folder = self.daemon.store / "hosted"

    def repair(self, *arguments: str) -> Ended:
        """Run the command on the daemon's configuration."""
        config = str(self.daemon.folder / "mirrord.toml")
        return mirrord("repair", *arguments, "--config", config, home=self.folder)

    def damage(self, content: bytes) -> Path:
        """Flip a bit in the record of a blob in the journal; return the path of that file."""
        path = max(self.hosted_folder.glob("hosted.journal-*"), key=lambda each: each.stat().st_mtime)
        journal = bytearray(path.read_bytes())
        journal[journal.index(digest_of(content).encode())] ^= 1
        path.write_bytes(journal)
        return path

    def assert_start_fails(self) -> None:
        """Check that the daemon exits with status 1 and one line that names the command."""
        before = len(self.daemon.log)
        self.assertRaises(AssertionError, self.daemon.start)
        self.assertEqual(1, self.daemon.status)
        lines = self.daemon.log[before:].splitlines()
        self.assertEqual(1, sum("mirrord repair" in line for line in lines), lines)
        self.assertNotIn("Traceback", "\n".join(lines))

    def restart(self) -> None:
        self.daemon.start()
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)

    def push_three(self) -> list[bytes]:
        contents = [f"{number} {self.id()}".encode() for number in range(3)]
        for content in contents:
            self.pusher.push_blob(self.repository, content)
        return contents

    def test_nothing_is_lost(self) -> None:
        """While the index has what the journal lost, a repair keeps everything and exits with 0."""
        contents = self.push_three()
        in_use = self.repair()
        self.assertEqual((1, 1), (in_use.status, len(in_use.err.splitlines())), in_use.err)
        self.assertIn("systemctl stop mirrord", in_use.err)

        self.daemon.stop()
        damaged = self.damage(contents[1])
        self.assert_start_fails()
        ended = self.repair()
        self.assertEqual((0, ""), (ended.status, ended.err), ended.out)
        (line,) = ended.lines
        self.assertRegex(line, f"^{damaged} was damaged .* {damaged.name}.damaged; no change is lost$")
        self.assertEqual(["nothing to repair"], self.repair().lines)

        self.restart()
        for content in contents:
            self.assert_blob(content)

    def test_changes_are_lost(self) -> None:
        """What nothing records is lost, the exit status is 1, and everything else is served."""
        contents = self.push_three()
        self.daemon.stop()
        damaged = self.damage(contents[1])
        for path in self.daemon.store.glob("index.sqlite*"):
            path.unlink()
        self.assert_start_fails()
        ended = self.repair("--json")
        self.assertEqual((1, 1), (ended.status, len(ended.err.splitlines())), ended.err)
        self.assertIn("push again", ended.err)
        (found,) = [json.loads(line) for line in ended.lines]
        ((first, last),) = found["lost"]
        self.assertEqual((str(damaged), first, None), (found["file"], last, found["lost_after"]))
        self.assertTrue(Path(found["set_aside"]).exists())
        again = self.repair("--json")
        self.assertEqual((0, ""), (again.status, again.out + again.err))

        self.restart()
        self.assert_blob(contents[0])
        self.assert_blob(contents[2])
        lost = self.path("blobs", digest_of(contents[1]))
        self.assertEqual(404, self.pusher.request("HEAD", lost).status)
        self.assert_quarantined(digest_of(contents[1]))
        self.pusher.push_blob(self.repository, contents[1])
        self.assert_blob(contents[1])

    def assert_quarantined(self, digest: str) -> None:
        """Check that status, metrics and doctor report one file in quarantine."""
        quarantine = self.hosted_folder / "quarantine"
        name = f"blob-{digest.replace(':', '-')}"
        deadline = time.monotonic() + 30
        while [path.name for path in quarantine.iterdir()] != [name]:
            self.assertLess(time.monotonic(), deadline, "the start has not reached the file")
            time.sleep(0.05)
        with urlopen(f"{self.daemon.admin_url}/status", timeout=10) as response:
            status = json.loads(response.read())["hosted"]["quarantine"]
        self.assertEqual({"entries": 1, "bytes": 4096}, status)
        with urlopen(f"{self.daemon.admin_url}/metrics", timeout=10) as response:
            self.assertIn("\nmirrord_quarantine_entries 1.0\n", response.read().decode())
        config = str(self.daemon.folder / "mirrord.toml")
        proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
        ended = mirrord("doctor", "--json", "--config", config, home=self.folder, **proxy)
        (found,) = [one for line in ended.lines if (one := json.loads(line))["subject"] == "quarantine"]
        self.assertEqual("warn", found["level"])
        self.assertIn(str(quarantine), found["text"])
        self.assertIn("push again", found["advice"])

    def test_no_store(self) -> None:
        """Without a store the exit status is 4."""
        config = self.folder / "none.toml"
        config.write_text(f'[store]\npath = "{self.folder}/none"\n')
        ended = mirrord("repair", "--config", str(config), home=self.folder)
        self.assertEqual((4, 1), (ended.status, len(ended.err.splitlines())), ended.err)
