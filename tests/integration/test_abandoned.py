import json
import os
import time
from urllib.request import urlopen

from tests.integration.case import MB, MirrorCase
from tests.integration.client import Reading, pull
from tests.integration.daemon import Daemon

REQUESTS = int(os.environ.get("MIRRORD_ABANDONED", "100"))
SECONDS = 30.0 if REQUESTS > 300 else 5.0
SIZE, RATE = 100 * MB, 1 * MB
DESCRIPTORS = 300


class AbandonedRequestTests(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.cached = self.registry.put_image(60 * MB, seed=2, tag="cached").layer
        self.digests = self.registry.put_zeros(SIZE, REQUESTS)
        self.registry.throttle(RATE)
        self.registry.throttle(None, self.cached.digest)

    def running(self, daemon: Daemon) -> int:
        with urlopen(f"{daemon.admin_url}/status", timeout=30) as response:
            return len(json.loads(response.read())["downloads"])

    def abandon(self, daemon: Daemon, digest: str) -> None:
        """Request a blob, and disconnect when the headers have arrived."""
        reading = Reading.open(daemon.blob(digest))
        self.assertEqual(200, reading.status)
        reading.hang_up()

    def assert_cached(self, daemon: Daemon) -> None:
        pulled = pull(daemon.blob(self.cached.digest))
        self.assert_right(pulled, self.cached)
        self.assertEqual("mirrord; hit", pulled.cache_status)

    def test_the_cache_stays(self) -> None:
        """Requests for blobs that exceed the cache together evict nothing when they are abandoned."""
        daemon = self.start_daemon(max_size=f"{(SIZE + 30 * MB) // 1024} KiB")
        self.assert_right(pull(daemon.blob(self.cached.digest)), self.cached)
        self.wait_until_settled(daemon)
        for digest in self.digests[:5]:
            self.abandon(daemon, digest)
        time.sleep(SECONDS)
        self.assert_cached(daemon)

    def test_a_client_with_too_many(self) -> None:
        """A client's 49th download waits for 20 s, then gets 503; it begins when another is abandoned."""
        daemon = self.start_daemon()
        readings = [Reading.open(daemon.blob(digest)) for digest in self.digests[:48]]
        self.assertEqual({200}, {reading.status for reading in readings})
        refused = pull(daemon.blob(self.digests[48]))
        self.assertEqual((503, "10"), (refused.status, refused.header("Retry-After")))
        self.assertEqual("UNAVAILABLE", json.loads(refused.body)["errors"][0]["code"])
        self.assertGreater(refused.seconds, 19)
        self.assertLess(refused.seconds, 25)
        readings[0].hang_up()
        self.abandon(daemon, self.digests[48])
        for reading in readings[1:]:
            reading.hang_up()

    def test_many(self) -> None:
        """Many abandoned requests leave few downloads and descriptors, and load little from the upstream."""
        daemon = self.start_daemon()
        self.assert_right(pull(daemon.blob(self.cached.digest)), self.cached)
        self.registry.forget()
        most_running = most_open = 0
        for number, digest in enumerate(self.digests):
            self.abandon(daemon, digest)
            most_open = max(most_open, daemon.open_files())
            if number % 10 == 0:
                most_running = max(most_running, self.running(daemon))
        began_at = time.monotonic()
        while time.monotonic() - began_at < SECONDS:
            most_running = max(most_running, self.running(daemon))
            most_open = max(most_open, daemon.open_files())
            time.sleep(0.2)
        share = self.registry.journal.bytes_sent() / (REQUESTS * SIZE)
        print(f"{most_running} downloads, {most_open} descriptors, {share:.1%} loaded")  # noqa: T201
        self.assertLessEqual(most_running, 64)
        self.assertLessEqual(most_open, DESCRIPTORS)
        self.assertLessEqual(share, 0.1)
        self.assert_cached(daemon)
