import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

from tests.integration.case import MIB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon, Settings
from tests.integration.pushing import Pusher, digest_of
from tests.power_cut.disk import make_disk, mounted, problem

FREEZE_SECONDS = float(os.environ.get("MIRRORD_FREEZE_SECONDS", "5"))
HITS = 12
COLD = 3

_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878

HOSTED = '[hosted]\nrepositories = ["team/*"]\npush_from_loopback = true\n'


T = TypeVar("T")


class Work(threading.Thread, Generic[T]):
    """A call in a thread of its own; `result` waits for what it returns."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._results: list[T] = []
        self.start()

    def run(self) -> None:
        self._results.append(self._call())

    def result(self) -> T:
        self.join(60)
        return self._results[0]


class FrozenDiskTests(MirrorCase):
    """The store is on an ext4 of its own, which fsfreeze(8) can stop from being written."""

    def setUp(self) -> None:
        super().setUp()
        reason = problem()
        if reason is not None:
            self.skipTest(reason)
        settings = Settings(self.registry.url, more=HOSTED, idle_timeout="30s")
        self.daemon = Daemon(self.folder / "mirrord", settings)
        make_disk(self.folder / "image")
        mount = mounted(self.folder / "image", self.daemon.store)
        mount.__enter__()
        self.addCleanup(mount.__exit__, None, None, None)
        self.addCleanup(self.daemon.kill)
        self.daemon.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the file system of the store: whatever writes to it waits."""
        fd = os.open(self.daemon.store, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FIFREEZE, 0)
            try:
                yield
            finally:
                fcntl.ioctl(fd, _FITHAW, 0)
        finally:
            os.close(fd)

    def push(self, content: bytes) -> str:
        pusher = Pusher(self.daemon.port)
        try:
            return pusher.push_blob("team/app", content)
        finally:
            pusher.close()

    def test_hits_while_the_disk_is_frozen(self) -> None:
        """Hits and /healthz wait for nothing while pulls and pushes wait for the disk, which then go on."""
        images = [self.registry.put_image(100_000, seed=n, tag=f"t{n}") for n in range(HITS + COLD + 1)]
        hits, cold, last = images[:HITS], images[HITS : HITS + COLD], images[-1]
        slow = self.registry.put_blob(4 * MIB, seed=99)
        for number, image in enumerate(hits):
            self.assert_right(pull(self.daemon.manifest(f"t{number}")), image.manifest)
            self.assert_right(pull(self.daemon.blob(image.layer.digest)), image.layer)
        self.wait_until_settled(self.daemon)
        self.daemon.stop()
        self.daemon.start()
        self.registry.throttle(MIB // 2, slow.digest)
        pulls = [Work(partial(pull, self.daemon.blob(slow.digest)))]
        self.assert_right(pull(self.daemon.blob(last.layer.digest)), last.layer)  # the index is written soon
        content = os.urandom(MIB)

        with self.frozen():
            frozen_at = time.monotonic()
            pulls += [Work(partial(pull, self.daemon.blob(image.layer.digest))) for image in cold]
            pushing = Work(partial(self.push, content))
            waits: list[tuple[float, str]] = []
            while time.monotonic() < frozen_at + FREEZE_SECONDS:
                for number, image in enumerate(hits):
                    for url in (
                        self.daemon.blob(image.layer.digest),
                        self.daemon.manifest(f"t{number}"),
                        f"{self.daemon.admin_url}/healthz",
                    ):
                        pulled = pull(url)
                        self.assertEqual(200, pulled.status)
                        waits.append((pulled.seconds, url))

        waits.sort()
        self.assertLess(waits[-1][0], FREEZE_SECONDS / 5, waits[-3:])
        for working, stored in zip(pulls, [slow, *(image.layer for image in cold)], strict=True):
            self.assert_right(working.result(), stored)
        self.assertEqual(digest_of(content), pushing.result())
        self.assert_clean_shutdown(self.daemon)
