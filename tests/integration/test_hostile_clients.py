import json
import socket
import time

from tests.fakes.faults import Kind
from tests.integration.case import MB, MirrorCase
from tests.integration.client import Reading, pull
from tests.integration.raw import Spoken, ask


class HostileClientTests(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.image = self.registry.put_image(2 * MB)
        self.daemon = self.start_daemon()

    def _ask(self, head: str, body: bytes = b"", patience_seconds: float = 3.0) -> Spoken:
        raw = head.encode("latin-1") + b"\r\nHost: mirror.test\r\n\r\n" + body
        return ask(self.daemon.port, [raw], patience_seconds)[0]

    def _assert_refused(self, spoken: Spoken, *statuses: int) -> None:
        self.assertIn(spoken.status, statuses, spoken)
        self.assertTrue(json.loads(spoken.body)["errors"][0]["code"])

    def test_long_headers_are_taken_and_longer_ones_refused(self) -> None:
        """Sixty KiB of headers are read; from 64 KiB on the answer is 431, not a closed door."""
        fields = "\r\n".join(f"X-{place}: {'x' * 1000}" for place in range(59))
        self.assertEqual(self._ask(f"GET /v2/ HTTP/1.1\r\n{fields}").status, 200)
        one = f"GET /v2/ HTTP/1.1\r\nAuthorization: Bearer {'t' * 16_384}"
        self.assertEqual(self._ask(one).status, 200)
        self.assertEqual(self._ask(f"GET /v2/ HTTP/1.1\r\n{fields}\r\n{fields}").status, 431)
        self.assertEqual(self._ask(f"GET /v2/ HTTP/1.1\r\nX: {'x' * 100_000}").status, 431)

    def test_paths_that_climb_or_hide(self) -> None:
        """Encoded slashes, dot segments, NUL and what is not ASCII are refused without asking anyone."""
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
                self._assert_refused(self._ask(f"GET {path} HTTP/1.1"), 400, 404)
        self.assertEqual(self.registry.journal.requests(), ())

    def test_an_unknown_namespace_asks_nobody(self) -> None:
        """A registry that nobody configured is a 404 at once: a mirror is no open proxy."""
        self._assert_refused(self._ask("GET /v2/a/manifests/b?ns=169.254.169.254 HTTP/1.1"), 404)
        self.assertEqual(self.registry.journal.requests(), ())

    def test_pushes_are_refused_before_their_body(self) -> None:
        """A push is 405 with Allow, and its ten gigabytes are not waited for."""
        for head in (
            "POST /v2/library/app/blobs/uploads/ HTTP/1.1\r\nContent-Length: 10000000000",
            "PUT /v2/library/app/manifests/latest HTTP/1.1\r\nTransfer-Encoding: chunked",
            "DELETE /v2/library/app/manifests/latest HTTP/1.1",
        ):
            with self.subTest(head=head):
                spoken = self._ask(head)
                self._assert_refused(spoken, 405)
                self.assertIn(b"allow: ", spoken.head.lower())

    def test_a_body_on_a_get_is_not_kept(self) -> None:
        """A GET with a huge body gets an answer and costs neither disk nor memory."""
        before = self.daemon.pss()
        spoken = self._ask("GET /v2/ HTTP/1.1\r\nContent-Length: 50000000", bytes(4 * MB))
        self.assertIn(spoken.status, {200, 400, 413, None})
        self.assertLess(self.daemon.pss() - before, 3 * MB)

    def test_hundreds_of_idle_connections(self) -> None:
        """Connections on which nothing is said, or only half a line, keep nobody else waiting."""
        idle = [socket.create_connection(("127.0.0.1", self.daemon.port)) for _ in range(300)]
        for place, sock in enumerate(idle):
            self.addCleanup(sock.close)
            sock.sendall(b"GET /v2/ HT"[: place % 12])
        began_at = time.monotonic()
        self.assert_right(pull(self.daemon.manifest("latest")), self.image.manifest)
        self.assertLess(time.monotonic() - began_at, 2.0)

    def test_readers_that_stop(self) -> None:
        """Fifty clients who stop reading in the middle cost no upstream bytes and hardly any memory."""
        layer = self.image.layer
        self.assert_right(pull(self.daemon.blob(layer.digest)), layer)
        before = self.daemon.pss()
        stopped = [Reading.open(self.daemon.blob(layer.digest)) for _ in range(50)]
        self.assert_right(pull(self.daemon.blob(layer.digest)), layer)
        self.assertLess(self.daemon.pss() - before, 8 * MB)
        for reading in stopped[:5]:
            self.assert_right(reading.read_all(), layer)
        for reading in stopped[5:]:
            reading.hang_up()
        self.assertEqual(len(self.registry.journal.requests(Kind.CONTENT)), 1)

    def test_pipelined_requests(self) -> None:
        """Requests sent without waiting are answered in their order, and none of them twice."""
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
        """A client that tries TLS first, as podman does, learns in a moment that this is plain HTTP."""
        hello = bytes.fromhex("16030100a5010000a10303") + bytes(range(32)) + bytes(122)
        with socket.create_connection(("127.0.0.1", self.daemon.port), 5) as sock:
            sock.settimeout(2)
            sock.sendall(hello)
            while sock.recv(65536):
                pass
