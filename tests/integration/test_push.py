"""Pushes that are broken off, stall, are concurrent or too large, to a real daemon."""

import hashlib
import socket
import time
from collections.abc import Iterator

from mirrord.store.uploads import MAX_OPEN
from tests.integration.client import pull
from tests.integration.pushing import PUSHABLE, HostedCase, Pusher, digest_of

CHUNK = bytes(range(256)) * 256
BIG_CHUNKS = 4096
"""256 MiB in chunks of 64 KiB."""


class BrokenTests(HostedCase):
    def send(self, path: str, length: int, content: bytes, *headers: str) -> socket.socket:
        """Send a request of which only the beginning of the body, `content`, follows."""
        client = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=20)
        self.addCleanup(client.close)
        lines = (f"PATCH {path} HTTP/1.1", "Host: here", f"Content-Length: {length}", *headers, "", "")
        client.sendall("\r\n".join(lines).encode() + content)
        return client

    def wait_for(self, location: str, last: int) -> None:
        """Wait until the upload is not busy, and has this last byte."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            response = self.pusher.request("GET", location)
            if (response.status, response.header("Range")) == (204, f"0-{last}"):
                return
            time.sleep(0.05)
        self.fail(f"the upload stays different: {response}")

    def wait_until_busy(self, location: str) -> None:
        """Wait until a request has begun to write to the upload."""
        deadline = time.monotonic() + 30
        while self.pusher.request("GET", location).status == 204:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def finish(self, location: str) -> None:
        response = self.pusher.request("PUT", f"{location}?digest={digest_of(CHUNK)}", CHUNK[1000:])
        self.assertEqual(201, response.status, response.body)
        self.assert_blob(CHUNK)

    def test_disconnect(self) -> None:
        """After a disconnect within a chunk, the upload is resumed after the last byte received."""
        location = self.pusher.begin(self.repository)
        client = self.send(location, len(CHUNK), CHUNK[:1000])
        self.wait_until_busy(location)
        client.close()
        self.wait_for(location, 999)

        self.finish(location)

    def test_stall(self) -> None:
        """A stalled client gets a 408 after the configured time, and the upload can be resumed."""
        location = self.pusher.begin(self.repository)
        client = self.send(location, len(CHUNK), CHUNK[:1000])
        began_at = time.monotonic()
        response = client.makefile("rb").read()
        self.assertTrue(response.startswith(b"HTTP/1.1 408 "), response[:60])
        self.assertLess(time.monotonic() - began_at, 15)

        self.wait_for(location, 999)
        self.finish(location)

    def test_killed(self) -> None:
        """After `kill -9` the upload can be resumed, and acknowledged content is stored."""
        digest = self.pusher.push_blob(self.repository, b"before")
        location = self.pusher.begin(self.repository)
        self.pusher.request("PATCH", location, CHUNK[:1000])
        self.daemon.kill()
        self.daemon.start()
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)
        self.wait_for(location, 999)

        self.finish(location)
        self.assertEqual(200, pull(self.daemon.blob(digest, self.repository)).status)

    def test_busy(self) -> None:
        """A second request that writes to the same upload is a 409."""
        location = self.pusher.begin(self.repository)
        self.send(location, len(CHUNK), CHUNK[:1000])
        self.wait_until_busy(location)

        self.assert_error(self.pusher.request("PATCH", location, CHUNK), 409, "BLOB_UPLOAD_INVALID")

    def test_from_elsewhere(self) -> None:
        """Without [access] a client that may be on another host is rejected before it sends the body."""
        location = self.pusher.begin(self.repository)
        client = self.send(location, len(CHUNK), b"", "X-Forwarded-For: 192.0.2.1", "Expect: 100-continue")

        self.assertTrue(client.makefile("rb").read().startswith(b"HTTP/1.1 403 "))


class ManyTests(HostedCase):
    hosted = PUSHABLE + 'repositories = ["conf/*"]\nmax_upload_size = "1 GiB"\n'

    def test_stream(self) -> None:
        """256 MiB in one stream cost the daemon less than 32 MiB of memory, and are stored unchanged."""
        location, hasher = self.pusher.begin(self.repository), hashlib.sha256()
        before = self.daemon.anonymous_memory()
        highest = 0

        def chunks() -> Iterator[bytes]:
            nonlocal highest
            for number in range(BIG_CHUNKS):
                chunk = number.to_bytes(8, "big") + CHUNK[8:]
                hasher.update(chunk)
                yield chunk
                if number % 512 == 511:
                    highest = max(highest, self.daemon.anonymous_memory())

        response = self.pusher.request("PATCH", location, chunks())
        self.assertEqual(
            (202, f"0-{BIG_CHUNKS * len(CHUNK) - 1}"), (response.status, response.header("Range"))
        )
        digest = f"sha256:{hasher.hexdigest()}"
        self.assertEqual(201, self.pusher.request("PUT", f"{location}?digest={digest}").status)

        self.assertLess(highest - before, 32 * 1024 * 1024)
        self.assertEqual(BIG_CHUNKS * len(CHUNK), pull(self.daemon.blob(digest, self.repository)).size)

    def test_open_uploads(self) -> None:
        """A thousand open uploads cost no descriptor each but for the last ones, and less than 4 MiB."""
        files, before = self.daemon.open_files(), self.daemon.anonymous_memory()
        for _ in range(1000):
            self.pusher.begin(self.repository)

        self.assertLessEqual(self.daemon.open_files(), files + MAX_OPEN + 4)
        self.assertLess(self.daemon.anonymous_memory() - before, 4 * 1024 * 1024)

    def test_too_large(self) -> None:
        """An upload longer than max_upload_size is rejected by its Content-Length."""
        location = self.pusher.begin(self.repository)
        connection = socket.create_connection(("127.0.0.1", self.daemon.port), timeout=20)
        self.addCleanup(connection.close)
        head = f"PATCH {location} HTTP/1.1\r\nHost: here\r\nContent-Length: {2**30 + 1}\r\n\r\n"
        connection.sendall(head.encode())

        self.assertTrue(connection.makefile("rb").read().startswith(b"HTTP/1.1 413 "))
        self.assertEqual(204, self.pusher.request("GET", location).status)

    def test_not_hosted(self) -> None:
        """A repository that matches no pattern is mirrored, and rejects a push."""
        for path in ("/v2/library/x/blobs/uploads/", f"/v2/{self.repository}/blobs/uploads/?ns=docker.io"):
            self.assert_error(self.pusher.request("POST", path), 405, "UNSUPPORTED")
        response = self.pusher.request(
            "POST", f"/v2/{self.repository}/blobs/uploads/?ns=127.0.0.1:{self.daemon.port}"
        )

        self.assertEqual(202, response.status)
