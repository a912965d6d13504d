"""Uploads that are slow, many, too large or concurrent, to a real daemon."""

import hashlib
import http.client
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import skipUnless

from tests.integration.case import MB, MIB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon
from tests.integration.pushing import EMPTY_CONFIG, PUSHABLE, HostedCase, Pusher, Response, digest_of, image

CLIENTS = 8
UPLOADS = 1000
KIB = 1024
SENDING = 200
REST_BYTES = 2 * KIB
"""The memory of the daemon for an idle upload, as in docs/configuration.md."""

OPEN_FILES = 16
"""The descriptors of all idle uploads together, as in docs/configuration.md."""

SENDING_BYTES = 128 * KIB
"""The memory of the daemon for an upload whose client is slow to send."""


def run_concurrently(work: Callable[[int], Response]) -> list[Response]:
    """Send a request from each of several clients at the same time."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(work, range(CLIENTS)))


class SlowTests(HostedCase):
    def drip(self, location: str, bytes_a_time: int, seconds: float) -> tuple[int, float]:
        """Send a few bytes every quarter of a second until a 408; return how many, and for how long."""
        client = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=20)
        self.addCleanup(client.close)
        head = f"PATCH {location} HTTP/1.1\r\nHost: here\r\nContent-Length: {MB}\r\n\r\n"
        client.sendall(head.encode())
        client.settimeout(0.25)
        began_at, sent = time.monotonic(), 0
        while time.monotonic() - began_at < seconds:
            client.sendall(b"x" * bytes_a_time)
            sent += bytes_a_time
            try:
                self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 408 "))
                break
            except TimeoutError:
                continue
        return sent, time.monotonic() - began_at

    def resume(self, location: str, *sizes: int) -> None:
        """Check that an upload has one of these sizes, and complete it."""
        response = self.pusher.request("GET", location)
        self.assertEqual(204, response.status)
        size = int(response.header("Range").removeprefix("0-")) + 1
        self.assertIn(size, sizes)
        content = b"x" * size + b"the rest"
        response = self.pusher.request(
            "PATCH", location, b"the rest", Content_Range=f"{size}-{len(content) - 1}"
        )
        self.assertEqual(202, response.status, response.body)
        response = self.pusher.request("PUT", f"{location}?digest={digest_of(content)}")
        self.assertEqual(201, response.status, response.body)
        self.assert_blob(content)

    def test_trickle(self) -> None:
        """A trickle of bytes is a 408 like a stall; the upload can be resumed, also after `kill -9`."""
        location = self.pusher.begin(self.repository)
        sent, seconds = self.drip(location, 100, 20)
        self.assertLess(seconds, 15)
        self.daemon.kill()
        self.daemon.start()
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)

        # The last bytes may have been sent after the timeout.
        self.resume(location, sent, sent - 100)

    def test_slow(self) -> None:
        """An upload over a slow line is not timed out."""
        location = self.pusher.begin(self.repository)
        _, seconds = self.drip(location, 8 * KIB, 5)

        self.assertGreaterEqual(seconds, 5)


class ManyTests(HostedCase):
    hosted = PUSHABLE + 'repositories = ["conf/*"]\n'

    def test_begun(self) -> None:
        """A thousand idle uploads cost the descriptors of the last ones, and at most 2 KiB of memory each."""
        content = bytes(4 * KIB)
        warm = self.pusher.begin(self.repository)
        self.pusher.request("PATCH", warm, content)
        files, before = self.daemon.open_files(), self.daemon.anonymous_memory()
        locations = []
        for number in range(UPLOADS):
            locations.append(self.pusher.begin(self.repository))
            response = self.pusher.request("PATCH", locations[-1], content + b"%d" % number)
            self.assertEqual(202, response.status)

        self.assertLessEqual(self.daemon.open_files(), files + OPEN_FILES)
        self.assertLess(self.daemon.anonymous_memory() - before, UPLOADS * REST_BYTES)
        for number in (0, UPLOADS - 1):
            digest = digest_of(content + b"%d" % number)
            response = self.pusher.request("PUT", f"{locations[number]}?digest={digest}")
            self.assertEqual(201, response.status, response.body)

    def test_sending(self) -> None:
        """Two hundred clients that pause cost two descriptors each, and less memory than they have sent."""
        locations = [self.pusher.begin(self.repository) for _ in range(SENDING)]
        files, before = self.daemon.open_files(), self.daemon.anonymous_memory()
        for location in locations:
            client = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=20)
            self.addCleanup(client.close)
            head = f"PATCH {location} HTTP/1.1\r\nHost: here\r\nContent-Length: {MB}\r\n\r\n"
            client.sendall(head.encode() + bytes(256 * KIB))
        sessions = self.daemon.store / "hosted" / "uploads"
        paths = [sessions / location.rpartition("/")[2] for location in locations]
        deadline = time.monotonic() + 30
        while not all(path.stat().st_size == 256 * KIB for path in paths):
            self.assertLess(time.monotonic(), deadline, "not all content was written")
            time.sleep(0.05)

        self.assertLessEqual(self.daemon.open_files(), files + 2 * SENDING)
        self.assertLess(self.daemon.anonymous_memory() - before, SENDING * SENDING_BYTES)


class LargeTests(HostedCase):
    hosted = PUSHABLE + 'repositories = ["conf/*"]\nmax_upload_size = "1 MiB"\n'

    def offset(self, location: str) -> int:
        """Return the size of an upload."""
        return int(self.pusher.request("GET", location).header("Range").partition("-")[2]) + 1

    def test_announced(self) -> None:
        """A POST whose Content-Length is too large is 413 before its body, and begins no upload."""
        path = f"/v2/{self.repository}/blobs/uploads/?digest={digest_of(b'')}"
        client = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=20)
        self.addCleanup(client.close)
        head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {MIB + 1}\r\n\r\n"
        client.sendall(head.encode())

        self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 413 "))
        self.assertEqual([], list((self.daemon.store / "hosted" / "uploads").glob(f"*-{self._mark()}-*")))

    def test_crossing(self) -> None:
        """A stream is 413 when it exceeds the limit, and not more than that is stored."""
        location = self.pusher.begin(self.repository)
        chunks = (bytes(64 * KIB) for _ in range(100))
        response = self.pusher.request("PATCH", location, chunks)

        self.assert_error(response, 413, "SIZE_INVALID")
        self.assertLessEqual(self.offset(location), MIB)

    def test_summed(self) -> None:
        """A chunk with which the upload exceeds the limit is 413; those before it are kept."""
        location, half = self.pusher.begin(self.repository), bytes(MIB // 2)
        for _ in range(2):
            self.assertEqual(202, self.pusher.request("PATCH", location, half).status)

        self.assert_error(self.pusher.request("PATCH", location, b"x"), 413, "SIZE_INVALID")
        self.assertEqual(MIB, self.offset(location))

    def _mark(self) -> str:
        return hashlib.sha256(self.repository.encode()).hexdigest()[:16]


class TogetherTests(HostedCase):
    def with_pusher(self, work: Callable[[Pusher], Response]) -> Response:
        pusher = Pusher(self.daemon.port)
        try:
            return work(pusher)
        finally:
            pusher.close()

    def test_one_blob(self) -> None:
        """Concurrent pushes of one blob are all 201; it is stored once, and no upload remains."""
        content = os.urandom(3 * MB)
        path = f"/v2/{self.repository}/blobs/uploads/?digest={digest_of(content)}"
        responses = run_concurrently(
            lambda _: self.with_pusher(lambda pusher: pusher.request("POST", path, content))
        )

        self.assertEqual([201] * CLIENTS, [each.status for each in responses])
        self.assert_blob(content)
        self.assertEqual([], list((self.daemon.store / "hosted" / "uploads").iterdir()))
        self.assertLess(self.daemon.disk_bytes(), 2 * len(content))

    def test_one_tag(self) -> None:
        """Concurrent pushes of one tag all succeed; it names one of the manifests, and all are stored."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        manifests = [image(annotations={"client": str(number)}) for number in range(CLIENTS)]

        for _ in range(5):
            responses = run_concurrently(
                lambda number: self.with_pusher(
                    lambda pusher: pusher.put(self.repository, "latest", manifests[number])
                )
            )
            self.assertEqual([201] * CLIENTS, [each.status for each in responses])
            tagged = self.pusher.request("GET", self.path("manifests", "latest"))
            self.assertIn(tagged.body, manifests)
            self.assert_manifest("latest", tagged.body)
        for manifest in manifests:
            self.assert_manifest(digest_of(manifest), manifest)


@skipUnless(os.geteuid() == 0, "only root may mount a small disk")
class SmallDiskTests(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = self.folder / "mirrord" / "store"
        self.disk.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self.disk)], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(self.disk)], check=True)
        self.daemon = self.start_daemon(min_free="12 MiB", more=PUSHABLE + 'repositories = ["team/*"]\n')

    def push(self, size: int, is_announced: bool) -> Response:
        """Push `size` bytes, with Content-Length or in chunks."""
        pusher = Pusher(self.daemon.port)

        def chunks() -> Iterator[bytes]:
            for _ in range(size // (64 * KIB)):
                yield bytes(64 * KIB)

        try:
            location = pusher.begin("team/app")
            return pusher.request("PATCH", location, bytes(size) if is_announced else chunks())
        except (http.client.HTTPException, OSError) as error:
            raise AssertionError("there was no response") from error
        finally:
            pusher.close()

    def free(self) -> int:
        """Return the free space of the disk."""
        disk = os.statvfs(self.disk)
        return disk.f_bavail * disk.f_frsize

    def assert_pulls(self, daemon: Daemon) -> None:
        """Check that a mirrored image can be pulled, even if there is no room to cache it."""
        pushed = self.registry.put_image(5 * MB, seed=7, tag="late")
        self.assert_right(pull(daemon.manifest("late")), pushed.manifest)
        self.assert_right(pull(daemon.blob(pushed.layer.digest)), pushed.layer)

    def test_announced(self) -> None:
        """A push whose Content-Length exceeds the free space is 503 at once, and pulls still succeed."""
        self.assertEqual(503, self.push(60 * MIB, is_announced=True).status)
        self.assertGreater(self.free(), 60 * MIB)

        self.assert_pulls(self.daemon)

    def test_streams(self) -> None:
        """Concurrent pushes without a length do not use the reserve, and pulls still succeed."""
        responses = run_concurrently(lambda _: self.push(60 * MIB, is_announced=False))

        self.assertEqual({503}, {each.status for each in responses})
        self.assertGreaterEqual(self.free(), 11 * MIB)
        self.assert_pulls(self.daemon)

    def test_together(self) -> None:
        """Of concurrent pushes that do not fit together some are 503, and the reserve stays free."""
        responses = run_concurrently(lambda _: self.push(20 * MIB, is_announced=True))

        self.assertLessEqual({each.status for each in responses}, {202, 503})
        self.assertGreaterEqual([each.status for each in responses].count(202), 1)
        self.assertGreaterEqual(self.free(), 11 * MIB)
        self.assert_pulls(self.daemon)

    def test_mirrored_content_makes_room(self) -> None:
        """Mirrored content is evicted to make room for a push, and can be pulled again."""
        old = self.registry.put_image(30 * MB, seed=3, tag="old")
        self.assert_right(pull(self.daemon.blob(old.layer.digest)), old.layer)
        # A running download cannot be evicted.
        self.wait_until_settled(self.daemon)
        self.assertEqual(202, self.push(26 * MIB, is_announced=True).status)

        self.assertGreaterEqual(self.free(), 11 * MIB)
        self.assert_right(pull(self.daemon.blob(old.layer.digest)), old.layer)
