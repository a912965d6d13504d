from concurrent.futures import ThreadPoolExecutor

from tests.fakes.faults import Cut
from tests.integration.case import BIG, MB, MIB, MirrorCase
from tests.integration.client import Reading, pull, pull_at_once


class MaxSizeTests(MirrorCase):
    def test_the_disk_stays_below_max_size(self) -> None:
        """Under a stream of pulls the store stays below its limit and keeps the last used image."""
        daemon = self.start_daemon(max_size="120 MiB")
        sizes = []
        for seed in range(20):
            image = self.registry.put_image(15 * MB, seed=seed, tag=f"t{seed}")
            self.assert_right(pull(daemon.manifest(f"t{seed}")), image.manifest)
            for blob in image.blobs:
                self.assert_right(pull(daemon.blob(blob.digest)), blob)
            sizes.append(daemon.disk_bytes())
        self.assertLessEqual(max(sizes), 126 * MIB)
        self.assertGreaterEqual(min(sizes[8:]), 60 * MIB)
        self.registry.down()
        self.assert_right(pull(daemon.manifest("t19")), image.manifest)
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)

    def test_a_blob_larger_than_max_size_is_served(self) -> None:
        """A blob that can never be cached is streamed through, and evicts nothing."""
        cached = self.registry.put_image(5 * MB, seed=2, tag="cached")
        huge = self.registry.put_image(200 * MB, seed=3, tag="huge").layer
        daemon = self.start_daemon(max_size="120 MiB")
        self.assert_right(pull(daemon.manifest("cached")), cached.manifest)
        self.assert_right(pull(daemon.blob(cached.layer.digest)), cached.layer)
        self.assert_right(pull(daemon.blob(huge.digest)), huge)
        self.assertLessEqual(daemon.disk_bytes(), 126 * MIB)
        self.registry.down()
        self.assert_right(pull(daemon.manifest("cached")), cached.manifest)


class MemoryTests(MirrorCase):
    def test_memory_after_everything(self) -> None:
        """After misses, hits, broken downloads and slow clients the daemon uses at most 64 MiB."""
        blobs = [self.registry.put_image(BIG, seed=seed, tag=f"t{seed}").layer for seed in range(2)]
        daemon = self.start_daemon()
        self.registry.play(Cut(BIG // 3), Cut(BIG // 3))
        for blob in blobs:
            for pulled in pull_at_once(16, daemon.blob(blob.digest)):
                self.assert_right(pulled, blob)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(pull, [daemon.manifest("t0")] * 2000))
        idle = [Reading.open(daemon.blob(blobs[0].digest)) for _ in range(30)]
        self.assertLessEqual(daemon.pss(), 64 * MIB)
        for reading in idle:
            reading.hang_up()
        self.wait_until(lambda: daemon.open_files() < 40, what="closed files")
