import json
import os
import shutil
import subprocess
from pathlib import Path

import attrs

from tests.integration.case import MIB, MirrorCase
from tests.integration.client import Reading, pull
from tests.integration.daemon import Daemon, Settings
from tests.integration.pushing import Pusher, descriptor, digest_of

TEAM = "team/app"
MIRRORED = "library/app"
DISK_BYTES = 24 * MIB
LAYER = os.urandom(10_000).hex().encode()

HOSTED = """
[hosted]
repositories = ["team/*"]
push_from_loopback = true
"""


class HostedElsewhereTests(MirrorCase):
    """Hosted repositories have a small file system of their own: a tmpfs, mounted for each test."""

    def setUp(self) -> None:
        super().setUp()
        self.hosted = self.folder / "hosted"
        self.hosted.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self.hosted)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            self.skipTest(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(self.hosted)], check=True)
        path = f"path = {json.dumps(str(self.hosted))}\n"
        self.settings = Settings(self.registry.url, more=HOSTED + path)
        self.daemon = Daemon(self.folder / "mirrord", self.settings)
        self.addCleanup(self.daemon.kill)

    def start(self) -> None:
        self.daemon.start()
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)

    def restart(self) -> None:
        self.daemon.stop()
        self.start()

    def sweep(self) -> None:
        response = Reading.open(f"{self.daemon.command_url}/sweep", method="POST").read_all()
        self.assertEqual(200, response.status, response)

    def places(self, content: bytes, kind: str = "blobs") -> list[Path]:
        """Return the folders that have this content: that of the store, and that of hosted repositories."""
        digits = digest_of(content).partition(":")[2]
        path = Path(kind, "sha256", digits[:2], digits)
        return [folder for folder in (self.daemon.store, self.hosted) if (folder / path).exists()]

    def assert_image(self, manifest: bytes, *blobs: bytes, repository: str = TEAM) -> None:
        self.assertEqual(manifest, pull(self.daemon.manifest("v1", repository)).body)
        for blob in blobs:
            self.assertEqual(digest_of(blob), digest_of(self.read(blob, repository)))

    def read(self, blob: bytes, repository: str) -> bytes:
        return self.pusher.request("GET", f"/v2/{repository}/blobs/{digest_of(blob)}").body

    def readiness(self) -> tuple[int, str]:
        response = pull(f"{self.daemon.admin_url}/readyz")
        return response.status, json.loads(response.body)["checks"]["disk"]

    def test_a_push(self) -> None:
        """What is pushed is on the other file system, and survives a restart."""
        self.start()
        manifest = self.pusher.push_image(TEAM, "v1", LAYER)
        self.assertEqual([self.hosted], self.places(LAYER))
        self.assertEqual([self.hosted], self.places(manifest, "manifests"))
        self.restart()
        self.assert_image(manifest, LAYER)
        self.assert_clean_shutdown(self.daemon)

    def test_a_mount(self) -> None:
        """A mirrored blob is mounted by a copy, which a sweep keeps; a deletion returns it to the cache."""
        self.registry.put_content(LAYER, MIRRORED)
        self.start()
        self.assertEqual(LAYER, self.read(LAYER, MIRRORED))
        self.wait_until(lambda: bool(self.places(LAYER)), what="the commit")
        digest = digest_of(LAYER)
        mount = f"/v2/{TEAM}/blobs/uploads/?mount={digest}&from={MIRRORED}"
        self.wait_until(lambda: self.pusher.request("POST", mount).status == 201, what="the mount")
        self.assertIn(self.hosted, self.places(LAYER))
        self.sweep()
        self.assertEqual([self.hosted], self.places(LAYER))
        self.registry.down()
        for repository in (TEAM, MIRRORED):
            self.assertEqual(LAYER, self.read(LAYER, repository))

        self.assertEqual(202, self.pusher.request("DELETE", f"/v2/{TEAM}/blobs/{digest}").status)
        self.sweep()
        self.assertEqual([self.daemon.store], self.places(LAYER))
        self.assertEqual(LAYER, self.read(LAYER, MIRRORED))
        self.assertEqual(404, self.pusher.request("HEAD", f"/v2/{TEAM}/blobs/{digest}").status)
        self.restart()
        self.assertEqual(LAYER, self.read(LAYER, MIRRORED))
        self.registry.up()
        self.assert_clean_shutdown(self.daemon)

    def test_no_room(self) -> None:
        """A full file system of hosted repositories is named; it refuses pushes and not pulls."""
        image = self.registry.put_image(100_000, tag="t1")
        mounted = self.registry.put_blob(2 * MIB, seed=2)
        self.start()
        self.assert_right(pull(self.daemon.blob(mounted.digest)), mounted)
        self.wait_until_settled(self.daemon)
        free = os.statvfs(self.hosted)
        filler = self.hosted / "filler"
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 2 * MIB))

        session = self.pusher.begin(TEAM)
        refused = self.pusher.request("PATCH", session, bytes(3 * MIB // 2))
        self.assertEqual((503, "UNAVAILABLE"), (refused.status, refused.code))
        mount = f"/v2/{TEAM}/blobs/uploads/?mount={mounted.digest}&from={MIRRORED}"
        self.assertEqual(503, self.pusher.request("POST", mount).status)
        problem = "the disk of hosted repositories is full: "
        status, reason = self.readiness()
        self.assertEqual((503, problem), (status, reason[: len(problem)]))
        self.assert_right(pull(self.daemon.manifest("t1")), image.manifest)
        self.assert_right(pull(self.daemon.blob(image.layer.digest)), image.layer)
        self.wait_until_settled(self.daemon)
        before = self.registry.journal.bytes_sent(image.layer.digest)
        self.assert_right(pull(self.daemon.blob(image.layer.digest)), image.layer)
        self.assertEqual(before, self.registry.journal.bytes_sent(image.layer.digest))

        filler.unlink()
        self.assertEqual((200, "ok"), self.readiness())
        self.pusher.push_image(TEAM, "v1", LAYER)
        self.assert_clean_shutdown(self.daemon)

    def test_an_upgrade(self) -> None:
        """What an earlier version has stored with the cache is served, and moves to the other file system."""
        layers = [os.urandom(256 * 1024) for _ in range(20)]
        inside = self.daemon.store / "hosted"
        self.daemon.settings = attrs.evolve(self.settings, more=HOSTED)
        self.start()
        manifest = self.pusher.push_image(TEAM, "v1", *layers)
        self.daemon.stop()
        for kind in ("blobs", "manifests"):
            shutil.copytree(inside / kind, self.daemon.store / kind, dirs_exist_ok=True)
            shutil.rmtree(inside / kind)
        for journal in inside.glob("hosted.*"):
            shutil.move(journal, self.hosted)
        shutil.rmtree(inside)
        self.daemon.settings = self.settings
        self.start()
        moved = (*layers, b"{}")
        while any(self.places(each) != [self.hosted] for each in moved):
            self.assert_image(manifest, *layers)
        self.wait_until(lambda: self.places(manifest, "manifests") == [self.hosted])
        self.assert_image(manifest, *layers)
        self.assertEqual(descriptor(layers[0])["digest"], digest_of(self.read(layers[0], TEAM)))
        self.restart()
        self.assert_image(manifest, *layers)
        self.assert_clean_shutdown(self.daemon)
