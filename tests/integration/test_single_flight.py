import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.fakes.faults import Chunked, Delay, Kind
from tests.fakes.registry_process import Stored
from tests.integration.case import BIG, MB, MirrorCase
from tests.integration.client import Reading, pull, pull_at_once
from tests.integration.daemon import Daemon

_SCOPE = "repository:library/app:pull"


class SingleFlightTests(MirrorCase):
    def test_sixteen_clients_cost_one_download(self) -> None:
        """Sixteen clients of an uncached blob cost one upstream GET, and take hardly longer than one."""
        daemon = self.start_daemon()
        self.registry.throttle(BIG / 4)
        self.assertLessEqual(min(self._slowdowns(daemon)), 1.25)

    def _slowdowns(self, daemon: Daemon) -> Iterator[float]:
        """Compare the time of sixteen clients with that of one direct client, up to three times."""
        for seed in range(3):
            blob, other = [
                self.registry.put_image(BIG, seed=2 * seed + i, tag=f"t{seed}-{i}").layer for i in (0, 1)
            ]
            direct_seconds = self._pull_directly(other)
            began_at = time.monotonic()
            pulls = pull_at_once(16, daemon.blob(blob.digest))
            slowdown = (time.monotonic() - began_at) / direct_seconds
            for pulled in pulls:
                self.assert_right(pulled, blob)
            self.assertEqual(len(self.registry.journal.requests(Kind.CONTENT, match=blob.digest)), 1)
            self.assertEqual(self.registry.journal.bytes_sent(blob.digest), blob.size)
            statuses = sorted({pulled.cache_status for pulled in pulls})
            self.assertEqual(statuses, ["mirrord; fwd=uri-miss; collapsed", "mirrord; fwd=uri-miss; stored"])
            yield slowdown
            if slowdown <= 1.25:
                return

    def _pull_directly(self, blob: Stored) -> float:
        """Return how long a pull from the registry itself takes, including its token."""
        url = f"{self.registry.url}/v2/library/app/blobs/{blob.digest}"
        began_at = time.monotonic()
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', pull(url).header("WWW-Authenticate")))
        token_url = f"{challenge['realm']}?service={challenge['service']}&scope={challenge['scope']}"
        token = json.loads(pull(token_url).body)["token"]
        redirected = pull(url, {"Authorization": f"Bearer {token}"}).header("Location")
        self.assert_right(pull(redirected), blob)
        return time.monotonic() - began_at

    def test_sixteen_clients_cost_one_manifest_and_one_token(self) -> None:
        """Sixteen clients of an uncached tag cost one manifest GET and one token of its scope."""
        image = self.registry.put_image(1000)
        self.registry.play(Delay(0.3))
        daemon = self.start_daemon()
        for pulled in pull_at_once(16, daemon.manifest("latest")):
            self.assert_right(pulled, image.manifest)
        self.assertEqual(len(self.registry.journal.requests(Kind.MANIFEST, "GET")), 1)
        self.assertEqual(self.registry.tokens_per_scope[_SCOPE], 1)

    def test_sixteen_tags_cost_one_token(self) -> None:
        """Sixteen concurrent pulls of different tags of a repository cost one token."""
        images = [self.registry.put_image(1000, seed=seed, tag=f"t{seed}") for seed in range(16)]
        self.registry.play(Delay(0.3, on=Kind.TOKEN))
        daemon = self.start_daemon()
        with ThreadPoolExecutor(16) as pool:
            pulls = list(pool.map(pull, [daemon.manifest(f"t{seed}") for seed in range(16)]))
        for pulled, image in zip(pulls, images, strict=True):
            self.assert_right(pulled, image.manifest)
        self.assertEqual(self.registry.tokens_per_scope[_SCOPE], 1)

    def test_thirty_clients_in_the_same_second_pull_whole_images(self) -> None:
        """Thirty hosts that pull an image at the same time cost its bytes once, and each gets all of it."""
        image = self.registry.put_image(3 * MB, 2 * MB, 1 * MB)
        daemon = self.start_daemon()
        for pulled in pull_at_once(30, daemon.manifest("latest")):
            self.assert_right(pulled, image.manifest)
        with ThreadPoolExecutor(30 * len(image.blobs)) as pool:
            urls = [daemon.blob(blob.digest) for blob in image.blobs]
            pulls = list(pool.map(pull, urls * 30))
        for pulled, blob in zip(pulls, image.blobs * 30, strict=True):
            self.assert_right(pulled, blob)
        self.assertEqual(self.registry.journal.bytes_sent(), sum(blob.size for blob in image.blobs))

    def test_a_small_image_does_not_queue_behind_a_big_one(self) -> None:
        """While a throttled blob is downloaded for sixteen clients, another image is pulled completely."""
        big = self.registry.put_image(BIG, seed=1, tag="big")
        small = self.registry.put_image(100_000, seed=2, tag="small")
        self.registry.throttle(2 * MB, big.layer.digest)
        daemon = self.start_daemon()
        with ThreadPoolExecutor(16) as pool:
            slow = [pool.submit(Reading.open, daemon.blob(big.layer.digest)) for _ in range(16)]
            readings = [reading.result() for reading in slow]
            self.assert_right(pull(daemon.manifest("small")), small.manifest)
            self.assert_right(pull(daemon.blob(small.layer.digest)), small.layer)
            self.assertLess(self.registry.journal.bytes_sent(big.layer.digest), big.layer.size / 2)
            for reading in readings:
                reading.hang_up()

    def test_the_download_outlives_its_only_client(self) -> None:
        """After the only client disconnects, the download continues, and the next client is a hit."""
        blob = self.registry.put_image(BIG).layer
        self.registry.throttle(30 * MB)
        daemon = self.start_daemon()
        reading = Reading.open(daemon.blob(blob.digest))
        reading.read_until(5 * MB)
        reading.hang_up()
        self.wait_until(
            lambda: self.registry.journal.bytes_sent(blob.digest) == blob.size, what="the whole blob"
        )
        self.registry.down()
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_disconnects_disturb_no_other_client(self) -> None:
        """Clients that disconnect during a download disturb neither it nor the other clients."""
        blob = self.registry.put_image(BIG).layer
        self.registry.throttle(20 * MB)
        daemon = self.start_daemon()
        with ThreadPoolExecutor(2) as pool:
            others = [pool.submit(pull, daemon.blob(blob.digest)) for _ in range(2)]
            for place in range(30):
                reading = Reading.open(daemon.blob(blob.digest))
                reading.read_until(place * 50_000)
                reading.hang_up()
            for other in others:
                self.assert_right(other.result(), blob)
        self.assertEqual(self.registry.journal.bytes_sent(blob.digest), blob.size)

    def test_a_stalled_client(self) -> None:
        """A client that reads nothing neither delays others nor costs the daemon memory."""
        blob = self.registry.put_image(BIG).layer
        daemon = self.start_daemon()
        stalled = Reading.open(daemon.blob(blob.digest))
        self.addCleanup(stalled.hang_up)
        self.assert_right(pull(daemon.blob(blob.digest)), blob)
        self.assertLess(daemon.pss(), 72 * MB)
        self.assert_right(stalled.read_all(), blob)
        self.assertEqual(self.registry.journal.bytes_sent(blob.digest), blob.size)

    def test_an_unknown_length(self) -> None:
        """Clients of a blob without Content-Length cost its bytes once, too."""
        blob = self.registry.put_image(8 * MB).layer
        self.registry.play(Chunked(on=Kind.CONTENT))
        daemon = self.start_daemon()
        for pulled in pull_at_once(8, daemon.blob(blob.digest)):
            self.assert_right(pulled, blob)
        self.assertEqual(self.registry.journal.bytes_sent(blob.digest), blob.size)


class RangeTests(MirrorCase):
    def test_a_near_range_of_a_miss_is_quick(self) -> None:
        """A range near the start of an uncached blob is served before half of the blob is downloaded."""
        blob = self.registry.put_image(BIG).layer
        self.registry.throttle(BIG / 8)
        daemon = self.start_daemon()
        pulled = pull(daemon.blob(blob.digest), {"Range": "bytes=100-199"})
        self.assertEqual((pulled.status, pulled.size), (206, 100))
        self.assertEqual(pulled.header("Content-Range"), f"bytes 100-199/{blob.size}")
        self.assertLess(self.registry.journal.bytes_sent(blob.digest), blob.size / 2)
        whole = pull(daemon.blob(blob.digest))
        self.assert_right(whole, blob)
        self.assertEqual(whole.body[100:200], pulled.body)

    def test_the_end_of_a_throttled_blob_does_not_wait_for_its_start(self) -> None:
        """A range far ahead of a running download is passed through before half of it is downloaded."""
        blob = self.registry.put_image(max(BIG, 64 * MB)).layer
        self.registry.throttle(4 * MB)
        daemon = self.start_daemon()
        first = blob.size - 5000
        pulled = pull(daemon.blob(blob.digest), {"Range": f"bytes={first}-{first + 99}"})
        self.assertEqual((pulled.status, pulled.size), (206, 100))
        self.assertEqual(pulled.cache_status, "mirrord; fwd=partial")
        self.assertLess(self.registry.journal.bytes_sent(blob.digest), blob.size / 2)

    def test_thousands_of_small_ranges_cost_one_download(self) -> None:
        """Two thousand small ranges from eight clients cost less than 1.2 times the bytes of the blob."""
        blob = self.registry.put_image(8 * MB).layer
        daemon = self.start_daemon()
        spans = [(place * 4001 % (blob.size - 300), 200 + place % 100) for place in range(2000)]

        def request(span: tuple[int, int]) -> tuple[int, int]:
            first, count = span
            pulled = pull(daemon.blob(blob.digest), {"Range": f"bytes={first}-{first + count - 1}"})
            return pulled.status, pulled.size

        with ThreadPoolExecutor(8) as pool:
            pulls = list(pool.map(request, spans))
        self.assertEqual(set(pulls), {(206, count) for _, count in spans})
        self.assertLess(self.registry.journal.bytes_sent(blob.digest), 1.2 * blob.size)
        self.assertLess(len(self.registry.journal.requests(Kind.CONTENT)), 10)
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_disconnects_from_open_ended_ranges_cost_one_download(self) -> None:
        """Open-ended ranges, each closed after a chunk as containerd does, cost one upstream download."""
        blob = self.registry.put_image(16 * MB).layer
        daemon = self.start_daemon()
        for first in range(0, blob.size, 4 * MB):
            reading = Reading.open(daemon.blob(blob.digest), {"Range": f"bytes={first}-"})
            reading.read_until(min(4 * MB, blob.size - first))
            self.assertEqual(reading.status, 206)
            reading.hang_up()
        self.assertEqual(len(self.registry.journal.requests(Kind.CONTENT)), 1)
        self.assertEqual(self.registry.journal.bytes_sent(blob.digest), blob.size)
