"""Uploaders that are slow, many, too large or all at once, before a real daemon."""

import hashlib
import http.client
import json
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
from tests.integration.pushing import EMPTY_CONFIG, HostedCase, Pusher, Said, digest_of, image

CLIENTS = 8
UPLOADS = 1000
KIB = 1024
SENDING = 200
REST_BYTES = 2 * KIB
"""What an upload at rest may cost the daemon, as docs/configuration.md says."""

SENDING_BYTES = 128 * KIB
"""And one whose client is slow to send."""


def at_once(work: Callable[[int], Said]) -> list[Said]:
    """What so many clients are answered who ask in the same moment."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(work, range(CLIENTS)))


class SlowTests(HostedCase):
    def drip(self, location: str, bytes_a_time: int, seconds: float) -> tuple[int, float]:
        """Send a little every quarter of a second, until we are cut; how much was sent, and for how long."""
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

    def resume(self, location: str, sent: int) -> None:
        """Ask how far an upload is, and bring it to its end."""
        said = self.pusher.ask("GET", location)
        self.assertEqual((204, f"0-{sent - 1}"), (said.status, said.header("Range")))
        content = b"x" * sent + b"the rest"
        said = self.pusher.ask("PATCH", location, b"the rest", Content_Range=f"{sent}-{len(content) - 1}")
        self.assertEqual(202, said.status, said.body)
        said = self.pusher.ask("PUT", f"{location}?digest={digest_of(content)}")
        self.assertEqual(201, said.status, said.body)
        self.assert_blob(content)

    def test_trickle(self) -> None:
        """Who sends a little all the time is cut like who is silent; what came stays, after kill -9 too."""
        location = self.pusher.begin(self.repository)
        sent, seconds = self.drip(location, 100, 20)
        self.assertLess(seconds, 6)
        self.daemon.kill()
        self.daemon.start()
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)

        self.resume(location, sent)

    def test_slow(self) -> None:
        """A slow line that goes on sending is not cut."""
        location = self.pusher.begin(self.repository)
        _, seconds = self.drip(location, 8 * KIB, 5)

        self.assertGreaterEqual(seconds, 5)


class ManyTests(HostedCase):
    hosted = '[hosted]\nrepositories = ["conf/*"]\n'

    def test_begun(self) -> None:
        """A thousand uploads with bytes in them cost no descriptor and little memory."""
        content = bytes(4 * KIB)
        warm = self.pusher.begin(self.repository)
        self.pusher.ask("PATCH", warm, content)
        files, before = self.daemon.open_files(), self.daemon.pss()
        locations = []
        for number in range(UPLOADS):
            locations.append(self.pusher.begin(self.repository))
            said = self.pusher.ask("PATCH", locations[-1], content + b"%d" % number)
            self.assertEqual(202, said.status)

        self.assertLessEqual(self.daemon.open_files(), files)
        self.assertLess(self.daemon.pss() - before, UPLOADS * REST_BYTES)
        for number in (0, UPLOADS - 1):
            digest = digest_of(content + b"%d" % number)
            said = self.pusher.ask("PUT", f"{locations[number]}?digest={digest}")
            self.assertEqual(201, said.status, said.body)

    def test_sending(self) -> None:
        """Two hundred clients that send and pause cost two descriptors each, and not what they have sent."""
        locations = [self.pusher.begin(self.repository) for _ in range(SENDING)]
        files, before = self.daemon.open_files(), self.daemon.pss()
        for location in locations:
            client = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=20)
            self.addCleanup(client.close)
            head = f"PATCH {location} HTTP/1.1\r\nHost: here\r\nContent-Length: {MB}\r\n\r\n"
            client.sendall(head.encode() + bytes(256 * KIB))
        sessions = self.daemon.store / "uploads"
        paths = [sessions / location.rpartition("/")[2] for location in locations]
        for _ in range(200):
            if all(path.stat().st_size == 256 * KIB for path in paths):
                break
            time.sleep(0.05)
        else:
            self.fail("what was sent is not written")

        self.assertLessEqual(self.daemon.open_files(), files + 2 * SENDING)
        self.assertLess(self.daemon.pss() - before, SENDING * SENDING_BYTES)


class LargeTests(HostedCase):
    hosted = '[hosted]\nrepositories = ["conf/*"]\nmax_upload_size = "1 MiB"\n'

    def offset(self, location: str) -> int:
        """How many bytes an upload has."""
        return int(self.pusher.ask("GET", location).header("Range").partition("-")[2]) + 1

    def test_announced(self) -> None:
        """What says that it is too large is refused before a byte of it is sent, and nothing is begun."""
        path = f"/v2/{self.repository}/blobs/uploads/?digest={digest_of(b'')}"
        client = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=20)
        self.addCleanup(client.close)
        head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {MIB + 1}\r\n\r\n"
        client.sendall(head.encode())

        self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 413 "))
        self.assertEqual([], list((self.daemon.store / "uploads").glob(f"*{self._mark()}")))

    def test_crossing(self) -> None:
        """A stream is refused where it crosses the limit, and no more than that is on the disk."""
        location = self.pusher.begin(self.repository)
        chunks = (bytes(64 * KIB) for _ in range(100))
        said = self.pusher.ask("PATCH", location, chunks)

        self.assert_error(said, 413, "SIZE_INVALID")
        self.assertLessEqual(self.offset(location), MIB)

    def test_summed(self) -> None:
        """Chunks are counted together: the one that crosses the limit is refused, those before it stay."""
        location, half = self.pusher.begin(self.repository), bytes(MIB // 2)
        for _ in range(2):
            self.assertEqual(202, self.pusher.ask("PATCH", location, half).status)

        self.assert_error(self.pusher.ask("PATCH", location, b"x"), 413, "SIZE_INVALID")
        self.assertEqual(MIB, self.offset(location))

    def _mark(self) -> str:
        return hashlib.sha256(self.repository.encode()).hexdigest()[:16]


class TogetherTests(HostedCase):
    def with_pusher(self, work: Callable[[Pusher], Said]) -> Said:
        pusher = Pusher(self.daemon.port)
        try:
            return work(pusher)
        finally:
            pusher.close()

    def test_one_blob(self) -> None:
        """Clients that push one blob at once are all told 201, it is there once, and no upload is left."""
        content = os.urandom(3 * MB)
        path = f"/v2/{self.repository}/blobs/uploads/?digest={digest_of(content)}"
        said = at_once(lambda _: self.with_pusher(lambda pusher: pusher.ask("POST", path, content)))

        self.assertEqual([201] * CLIENTS, [each.status for each in said])
        self.assert_blob(content)
        self.assertEqual([], list((self.daemon.store / "uploads").iterdir()))
        self.assertLess(self.daemon.disk_bytes(), 2 * len(content))

    def test_one_tag(self) -> None:
        """Clients that push one tag at once all succeed; it names one of theirs, and all of them stay."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        manifests = [image(annotations={"client": str(number)}) for number in range(CLIENTS)]

        for _ in range(5):
            said = at_once(
                lambda number: self.with_pusher(
                    lambda pusher: pusher.put(self.repository, "latest", manifests[number])
                )
            )
            self.assertEqual([201] * CLIENTS, [each.status for each in said])
            tagged = self.pusher.ask("GET", self.path("manifests", "latest"))
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
        self.daemon = self.start_daemon(min_free="12 MiB", more='[hosted]\nrepositories = ["team/*"]\n')

    def push(self, size: int, is_told: bool) -> Said:
        """Try to push so many bytes, and say beforehand how many, or do not."""
        pusher = Pusher(self.daemon.port)

        def chunks() -> Iterator[bytes]:
            for _ in range(size // (64 * KIB)):
                yield bytes(64 * KIB)

        try:
            location = pusher.begin("team/app")
            return pusher.ask("PATCH", location, bytes(size) if is_told else chunks())
        except (http.client.HTTPException, OSError) as error:
            raise AssertionError("it was not answered") from error
        finally:
            pusher.close()

    def free(self) -> int:
        """What is left of the disk."""
        disk = os.statvfs(self.disk)
        return disk.f_bavail * disk.f_frsize

    def assert_pulls(self, daemon: Daemon) -> None:
        """What is mirrored can be pulled, though there is no room to keep it."""
        pushed = self.registry.put_image(5 * MB, seed=7, tag="late")
        self.assert_right(pull(daemon.manifest("late")), pushed.manifest)
        self.assert_right(pull(daemon.blob(pushed.layer.digest)), pushed.layer)

    def test_announced(self) -> None:
        """A push that says that it is larger than the room there is is refused at once, and pulls go on."""
        self.assertEqual(503, self.push(60 * MIB, is_told=True).status)
        self.assertGreater(self.free(), 60 * MIB)

        self.assert_pulls(self.daemon)

    def test_streams(self) -> None:
        """Streams that come at once and without a length leave the reserve alone, and pulls go on."""
        said = at_once(lambda _: self.push(60 * MIB, is_told=False))

        self.assertEqual({503}, {each.status for each in said})
        self.assertGreaterEqual(self.free(), 11 * MIB)
        self.assert_pulls(self.daemon)

    def test_together(self) -> None:
        """Of pushes that would fit one by one, those that together do not are refused; the reserve stays."""
        said = at_once(lambda _: self.push(20 * MIB, is_told=True))

        self.assertLessEqual({each.status for each in said}, {202, 503})
        self.assertGreaterEqual([each.status for each in said].count(202), 1)
        self.assertGreaterEqual(self.free(), 11 * MIB)
        self.assert_pulls(self.daemon)

    def is_downloading(self) -> bool:
        return bool(json.loads(pull(f"{self.daemon.admin_url}/status").body)["downloads"])

    def test_mirrored_content_makes_room(self) -> None:
        """What is mirrored goes for what is pushed; it can be had again."""
        old = self.registry.put_image(30 * MB, seed=3, tag="old")
        self.assert_right(pull(self.daemon.blob(old.layer.digest)), old.layer)
        # Its client has it before it is committed, and what is being written cannot go.
        self.wait_until(lambda: not self.is_downloading(), what="the commit")
        self.assertEqual(202, self.push(26 * MIB, is_told=True).status)

        self.assertGreaterEqual(self.free(), 11 * MIB)
        self.assert_right(pull(self.daemon.blob(old.layer.digest)), old.layer)
