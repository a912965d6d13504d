import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

from mirrord.store.spare_files import SPARE_FILES
from tests.fakes.registry_process import Pushed
from tests.integration.case import MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon, Settings
from tests.integration.pushing import Pusher
from tests.power_cut.disk import make_disk, mounted, problem

INODES = 2048
IMAGES = 8

HOSTED = '[hosted]\nrepositories = ["team/*"]\npush_from_loopback = true\n'


class NoInodesTests(MirrorCase):
    """The store is on an ext4 of its own, on which other programs have created as many files as possible."""

    def setUp(self) -> None:
        super().setUp()
        reason = problem()
        if reason is not None:
            self.skipTest(reason)
        self.daemon = Daemon(self.folder / "mirrord", Settings(self.registry.url, more=HOSTED))
        make_disk(self.folder / "image", "-N", str(INODES))
        mount = mounted(self.folder / "image", self.daemon.store)
        mount.__enter__()
        self.addCleanup(mount.__exit__, None, None, None)
        self.addCleanup(self.daemon.kill)
        self.daemon.start()
        self.others = self.daemon.store / "others"
        self.wait_until(lambda: self.spare_files() == SPARE_FILES, what="spare files")

    def take_all_inodes(self) -> None:
        self.others.mkdir(exist_ok=True)
        for number in range(INODES):
            try:
                (self.others / str(number)).touch()
            except OSError:
                break
        self.assertEqual(0, os.statvfs(self.daemon.store).f_favail)

    def spare_files(self) -> int:
        return len(list((self.daemon.store / "spare").glob("*")))

    def is_stored(self, image: Pushed) -> bool:
        digits = image.layer.digest.partition(":")[2]
        return (self.daemon.store / "blobs/sha256" / digits[:2] / digits).exists()

    def pull_image(self, tag: str, image: Pushed) -> None:
        self.assert_right(pull(self.daemon.manifest(tag)), image.manifest)
        for blob in image.blobs:
            self.assert_right(pull(self.daemon.blob(blob.digest)), blob)

    def pusher(self) -> Pusher:
        pusher = Pusher(self.daemon.port)
        self.addCleanup(pusher.close)
        return pusher

    def readiness(self) -> tuple[int, str]:
        response = pull(f"{self.daemon.admin_url}/readyz")
        return response.status, json.loads(response.body)["checks"]["disk"]

    def test_without_inodes(self) -> None:
        """Pulls pass through and hits are served, a push is refused; with inodes, content is stored again."""
        images = [self.registry.put_image(100_000, seed=seed, tag=f"t{seed}") for seed in range(IMAGES + 2)]
        cached, cold, last = images[0], images[1:-1], images[-1]
        self.pull_image("t0", cached)
        self.wait_until_settled(self.daemon)
        pusher = self.pusher()
        session = pusher.begin("team/app")

        self.take_all_inodes()
        for _ in range(2):
            with ThreadPoolExecutor(IMAGES) as clients:
                tags = [f"t{seed}" for seed in range(1, IMAGES + 1)]
                list(clients.map(self.pull_image, tags, cold))
            self.take_all_inodes()
        self.assertEqual([True] + [False] * IMAGES, [self.is_stored(image) for image in images[:-1]])
        before = self.registry.journal.bytes_sent(cached.layer.digest)
        self.pull_image("t0", cached)
        self.assertEqual(before, self.registry.journal.bytes_sent(cached.layer.digest))
        refused = pusher.request("POST", "/v2/team/app/blobs/uploads/")
        self.assertEqual((503, "UNAVAILABLE"), (refused.status, refused.code))
        self.assertIn(b"disk is full", refused.body)
        refused = pusher.request("PATCH", session, b"content")
        self.assertEqual((503, "UNAVAILABLE"), (refused.status, refused.code))
        self.assertEqual((503, "the disk is full: 0 inodes are free"), self.readiness())
        self.wait_until(lambda: self.spare_files() == SPARE_FILES, what="spare files")

        self.daemon.stop()
        self.take_all_inodes()
        self.daemon.start()
        self.pull_image("t0", cached)
        self.pull_image("t1", cold[0])

        shutil.rmtree(self.others)
        self.assertEqual((200, "ok"), self.readiness())
        self.pull_image(f"t{IMAGES + 1}", last)
        self.wait_until(lambda: self.is_stored(last), what="the commit")
        self.pusher().push_image("team/app", "v1", b"layer")
        self.assert_clean_shutdown(self.daemon)
