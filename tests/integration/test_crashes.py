import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from unittest import skipUnless

from tests.integration.case import BIG, MB, MIB, MirrorCase
from tests.integration.client import Reading, pull


class KilledTests(MirrorCase):
    def test_a_partial_survives_kill_9(self) -> None:
        """After `kill -9` at 60 % the download is resumed there, and cached content is intact."""
        small = self.registry.put_image(MB, seed=2, tag="small")
        blob = self.registry.put_image(BIG).layer
        self.registry.throttle(30 * MB, blob.digest)
        daemon = self.start_daemon()
        self.assert_right(pull(daemon.manifest("small")), small.manifest)
        self.assert_right(pull(daemon.blob(small.layer.digest)), small.layer)
        self.wait_until_settled(daemon)
        with ThreadPoolExecutor(1) as pool:
            broken = pool.submit(lambda: Reading.open(daemon.blob(blob.digest)).read_all())
            self.wait_until(
                lambda: self.registry.journal.bytes_sent(blob.digest) > 0.6 * blob.size, 60, "60 %"
            )
            daemon.kill()
            self.assertFalse(broken.result().is_complete)
        daemon.start()
        self.assert_right(pull(daemon.blob(blob.digest)), blob)
        self.assertLessEqual(self.registry.journal.bytes_sent(blob.digest), 1.1 * blob.size)
        self.registry.down()
        self.assert_right(pull(daemon.manifest("small")), small.manifest)
        self.assert_right(pull(daemon.blob(small.layer.digest)), small.layer)
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_killed_again_and_again(self) -> None:
        """Killed at any point of a download, the daemon starts again and serves no corrupt blob."""
        images = [self.registry.put_image(2 * MB, seed=seed, tag=f"t{seed}") for seed in range(12)]
        daemon = self.start_daemon()
        for place, image in enumerate(images):
            pull(daemon.manifest(f"t{place}"))
            reading = Reading.open(daemon.blob(image.layer.digest))
            reading.read_until(place * 180_000)
            daemon.kill()
            reading.hang_up()
            daemon.start()
        for place, image in enumerate(images):
            self.assert_right(pull(daemon.manifest(f"t{place}")), image.manifest)
            self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)

    def test_a_running_pull_is_completed_after_sigterm(self) -> None:
        """After SIGTERM a running pull is completed, and then the daemon exits with status 0."""
        blob = self.registry.put_image(16 * MB).layer
        self.registry.throttle(8 * MB)
        daemon = self.start_daemon(drain_timeout="20s")
        with ThreadPoolExecutor(1) as pool:
            reading = Reading.open(daemon.blob(blob.digest))
            reading.read_until(MB)
            rest = pool.submit(reading.read_all)
            daemon.stop()
            self.assert_right(rest.result(), blob)


@skipUnless(os.geteuid() == 0, "only root may mount a small disk")
class FullDiskTests(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = self.folder / "mirrord" / "store"
        self.disk.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self.disk)], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(self.disk)], check=True)

    def test_a_full_disk_makes_room(self) -> None:
        """Images that do not fit on the disk together evict each other, and every pull is complete."""
        daemon = self.start_daemon(min_free="4 MiB")
        for seed in range(6):
            image = self.registry.put_image(20 * MB, seed=seed, tag=f"t{seed}")
            self.assert_right(pull(daemon.manifest(f"t{seed}")), image.manifest)
            self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
            self.assertLess(daemon.disk_bytes(), 64 * MIB)

    def test_a_blob_that_can_never_fit(self) -> None:
        """A blob larger than the disk is served completely or fails, and leaves nothing on the disk."""
        small = self.registry.put_image(MB, seed=2, tag="small")
        huge = self.registry.put_image(100 * MB, seed=3, tag="huge").layer
        daemon = self.start_daemon()
        self.assert_right(pull(daemon.blob(small.layer.digest)), small.layer)
        pulled = pull(daemon.blob(huge.digest))
        if pulled.status == 200 and pulled.is_complete:
            self.assert_right(pulled, huge)
        else:
            self.assertIn(pulled.status, {200, 503})
        self.wait_until(lambda: daemon.disk_bytes() < 8 * MIB, what="an empty disk")
        self.assert_right(pull(daemon.manifest("small")), small.manifest)
        self.assert_right(pull(daemon.blob(small.layer.digest)), small.layer)

    def test_a_disk_filled_by_another_program(self) -> None:
        """On a disk filled by another program hits are served, and a miss is 503 or passed through."""
        cached = self.registry.put_image(MB, seed=2, tag="cached")
        other = self.registry.put_image(20 * MB, seed=3, tag="other")
        daemon = self.start_daemon()
        self.assert_right(pull(daemon.manifest("cached")), cached.manifest)
        self.assert_right(pull(daemon.blob(cached.layer.digest)), cached.layer)
        ballast = self.disk / "ballast"
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(bytes(MIB))
                    file.flush()
            except OSError:
                pass
        pulled = pull(daemon.blob(other.layer.digest))
        self.assertTrue(pulled.status == 503 or not pulled.is_complete or pulled.crc32 == other.layer.crc32)
        manifest = pull(daemon.manifest("cached"))
        if manifest.status == 200:
            self.assert_right(manifest, cached.manifest)
        ballast.unlink()
        self.wait_until(lambda: pull(daemon.blob(other.layer.digest)).is_complete, what="room")
        self.assert_right(pull(daemon.blob(other.layer.digest)), other.layer)
        self.assert_right(pull(daemon.blob(cached.layer.digest)), cached.layer)
