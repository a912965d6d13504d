import json
import socket

from tests.fakes.faults import Kind
from tests.integration.case import MB, MirrorCase
from tests.integration.client import Reading, pull
from tests.integration.raw import RawResponse, exchange


class HostileClientTests(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.image = self.registry.put_image(2 * MB)
        self.daemon = self.start_daemon()

    def _send(self, head: str, body: bytes = b"", timeout_seconds: float = 20.0) -> RawResponse:
        raw = head.encode("latin-1") + b"\r\nHost: mirror.test\r\n\r\n" + body
        return exchange(self.daemon.port, [raw], timeout_seconds)[0]

    def _assert_rejected(self, response: RawResponse, *statuses: int) -> None:
        self.assertIn(response.status, statuses, response)
        self.assertTrue(json.loads(response.body)["errors"][0]["code"])

    def test_long_headers_are_accepted_and_longer_ones_rejected(self) -> None:
        """Headers of 60 KiB are accepted; from 64 KiB on the response is 431."""
        fields = "\r\n".join(f"X-{place}: {'x' * 1000}" for place in range(59))
        self.assertEqual(self._send(f"GET /v2/ HTTP/1.1\r\n{fields}").status, 200)
        long = f"GET /v2/ HTTP/1.1\r\nAuthorization: Bearer {'t' * 16_384}"
        self.assertEqual(self._send(long).status, 200)
        self.assertEqual(self._send(f"GET /v2/ HTTP/1.1\r\n{fields}\r\n{fields}").status, 431)
        self.assertEqual(self._send(f"GET /v2/ HTTP/1.1\r\nX: {'x' * 100_000}").status, 431)

    def test_path_traversal(self) -> None:
        """Encoded slashes, dot segments, NUL and non-ASCII paths are rejected without an upstream request."""
        for path in (
            "/v2/library%2Fapp/manifests/latest",
            "/v2/library/../app/manifests/latest",
            "/v2/%2e%2e/%2e%2e/etc/passwd",
            "/v2/library/app%00/manifests/latest",
            "/v2/library/app/blobs/sha256:..%2f..%2fetc%2fpasswd",
            "/v2//app/manifests/latest",
            "/v2/library/\xe9/manifests/latest",
            "/../v2/",
        ):
            with self.subTest(path=path):
                self._assert_rejected(self._send(f"GET {path} HTTP/1.1"), 400, 404)
        self.assertEqual(self.registry.journal.requests(), ())

    def test_an_unknown_namespace(self) -> None:
        """A registry that is not configured is a 404 without a request: a mirror is no open proxy."""
        self._assert_rejected(self._send("GET /v2/a/manifests/b?ns=169.254.169.254 HTTP/1.1"), 404)
        self.assertEqual(self.registry.journal.requests(), ())

    def test_pushes_are_refused_before_their_body(self) -> None:
        """A push is 405 with Allow before its body of ten gigabytes is received."""
        for head in (
            "POST /v2/library/app/blobs/uploads/ HTTP/1.1\r\nContent-Length: 10000000000",
            "PUT /v2/library/app/manifests/latest HTTP/1.1\r\nTransfer-Encoding: chunked",
            "DELETE /v2/library/app/manifests/latest HTTP/1.1",
        ):
            with self.subTest(head=head):
                response = self._send(head)
                self._assert_rejected(response, 405)
                self.assertIn(b"allow: ", response.head.lower())

    def test_a_body_on_a_get_is_discarded(self) -> None:
        """The body of a GET does not stay in memory."""
        before = self.daemon.anonymous_memory()
        response = self._send(
            "GET /v2/ HTTP/1.1\r\nContent-Length: 50000000", bytes(4 * MB), timeout_seconds=3.0
        )
        self.assertIn(response.status, {200, 400, 413, None})
        self.assertLess(self.daemon.anonymous_memory() - before, 3 * MB)

    def test_hundreds_of_idle_connections(self) -> None:
        """Connections with nothing, or half a request line, do not delay another client."""
        idle = [socket.create_connection(("127.0.0.1", self.daemon.port)) for _ in range(300)]
        for place, sock in enumerate(idle):
            self.addCleanup(sock.close)
            sock.sendall(b"GET /v2/ HT"[: place % 12])
        pulls = [pull(self.daemon.manifest("latest")) for _ in range(5)]
        for pulled in pulls:
            self.assert_right(pulled, self.image.manifest)
        self.assertLess(min(pulled.seconds for pulled in pulls), 2.0)
        for sock in idle:
            sock.setblocking(False)
            self.assertRaises(BlockingIOError, sock.recv, 1)

    def test_unfinished_heads(self) -> None:
        """A thousand heads of 60 KiB without an end cost less than 32 MB, and delay no other client."""
        before = self.daemon.anonymous_memory()
        for _ in range(1000):
            sock = socket.create_connection(("127.0.0.1", self.daemon.port))
            self.addCleanup(sock.close)
            sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: m\r\nX: " + b"x" * 60_000)
        self.assert_right(pull(self.daemon.manifest("latest")), self.image.manifest)
        self.assertLess(self.daemon.anonymous_memory() - before, 32 * MB)

    def test_readers_that_stop(self) -> None:
        """Fifty clients that stop reading cost no upstream bytes, and less than 8 MB of memory."""
        layer = self.image.layer
        self.assert_right(pull(self.daemon.blob(layer.digest)), layer)
        before = self.daemon.anonymous_memory()
        stopped = [Reading.open(self.daemon.blob(layer.digest)) for _ in range(50)]
        self.assert_right(pull(self.daemon.blob(layer.digest)), layer)
        self.assertLess(self.daemon.anonymous_memory() - before, 8 * MB)
        for reading in stopped[:5]:
            self.assert_right(reading.read_all(), layer)
        for reading in stopped[5:]:
            reading.hang_up()
        self.assertEqual(len(self.registry.journal.requests(Kind.CONTENT)), 1)

    def test_pipelined_requests(self) -> None:
        """Pipelined requests are answered in order, each once."""
        with socket.create_connection(("127.0.0.1", self.daemon.port), 5) as sock:
            sock.sendall(
                b"GET /v2/ HTTP/1.1\r\nHost: m\r\n\r\n" * 20 + b"GET /nothing HTTP/1.0\r\nHost: m\r\n\r\n"
            )
            answer = b""
            while chunk := sock.recv(65536):
                answer += chunk
        self.assertEqual(answer.count(b" 200 OK"), 20)
        self.assertEqual(answer.count(b" 404 "), 1)

    def test_tls_on_a_plain_port_is_refused_at_once(self) -> None:
        """A TLS handshake on a plain port, as podman tries first, closes the connection."""
        hello = bytes.fromhex("16030100a5010000a10303") + bytes(range(32)) + bytes(122)
        with socket.create_connection(("127.0.0.1", self.daemon.port), 5) as sock:
            sock.settimeout(10)
            sock.sendall(hello)
            while sock.recv(65536):
                pass
