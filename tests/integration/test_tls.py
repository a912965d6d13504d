"""A daemon with TLS: renewal under load, stalled handshakes, reload, curl and skopeo."""

import contextlib
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.clients.programs import find, run
from tests.fakes.certified import Certified
from tests.integration.case import MB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon, free_port

_LOADERS = 4


class SecureCase(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.certified = Certified(self.folder)
        self.pair = self.certified.issue("localhost")
        self.ca = self.folder / "ca.crt"
        self.certified.authority.cert_pem.write_to_path(str(self.ca))
        self.port = free_port()
        self.daemon = self.start_secure()

    def start_secure(self, more: str = "") -> Daemon:
        """Start a daemon with a TLS listener at `port`, beside the plain one."""
        return self.start_daemon(
            more=f"""
[[listen]]
endpoint = "tcp:{self.port}:interface=127.0.0.1"
certificate = "{self.pair.certificate}"
key = "{self.pair.key}"
{more}
"""
        )

    def handshake(self) -> bytes:
        """Request /v2/ over TLS, and return the certificate of the server."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            self.certified.trust().wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            with client.makefile("rb") as file:
                self.assertTrue(file.read().startswith(b"HTTP/1.1 200 OK"))
            return client.getpeercert(binary_form=True) or b""

    def readiness(self) -> str:
        """Return the body of /readyz."""
        try:
            with urlopen(f"{self.daemon.admin_url}/readyz", timeout=20) as response:
                return str(response.read().decode())
        except HTTPError as error:
            with error:
                return error.read().decode()


class RenewalTests(SecureCase):
    def test_renewed_under_load(self) -> None:
        """No handshake fails while the certificate is replaced, and then its key is broken."""
        first = self.handshake()
        is_over = threading.Event()

        def load() -> int:
            count = 0
            while not is_over.is_set():
                self.handshake()
                count += 1
            return count

        with ThreadPoolExecutor(_LOADERS) as pool:
            loaders = [pool.submit(load) for _ in range(_LOADERS)]
            with contextlib.ExitStack() as stack:
                stack.callback(is_over.set)
                self.certified.issue("localhost")
                self.wait_until(lambda: self.handshake() != first, what="the new certificate")
                second = self.handshake()
                content = self.pair.key.read_bytes()
                self.pair.key.write_bytes(b"half of a k")
                self.wait_until(lambda: str(self.pair.key) in self.readiness(), what="the problem")
                self.assertEqual(second, self.handshake())
                self.pair.key.write_bytes(content)
                self.wait_until(lambda: str(self.pair.key) not in self.readiness(), what="the repair")
                self.assertEqual(second, self.handshake())
            self.assertGreater(sum(loader.result() for loader in loaders), 20)
        self.assertEqual(1, self.daemon.log.count("until this is repaired"))


class ClientTests(SecureCase):
    def test_curl(self) -> None:
        """Curl receives a blob and a range of it over TLS; over plain HTTP it gets a hint."""
        blob = self.registry.put_image(20 * MB, seed=1).layer
        curl, target = find("curl"), self.folder / "blob"
        url = f"https://localhost:{self.port}/v2/library/app/blobs/{blob.digest}"
        command = (curl, "-sS", "--fail", "--cacert", str(self.ca), "-o", str(target))
        for _ in range(2):
            run(*command, url)
            self.assertEqual(blob.digest, f"sha256:{sha256(target.read_bytes()).hexdigest()}")
        content = target.read_bytes()
        run(*command, "-r", "1000000-1999999", url)
        self.assertEqual(content[1_000_000:2_000_000], target.read_bytes())
        hint = run(curl, "-sS", f"http://127.0.0.1:{self.port}/v2/")
        self.assertIn("this port speaks TLS", hint)

    def test_skopeo(self) -> None:
        """Skopeo copies an image over TLS with the authority in its --src-cert-dir."""
        image = self.registry.put_image(5 * MB, seed=2)
        trust = self.folder / "trust"
        trust.mkdir()
        (trust / "ca.crt").write_bytes(self.ca.read_bytes())
        for place in ("first", "second"):
            run(
                find("skopeo"),
                "copy",
                f"--src-cert-dir={trust}",
                f"docker://localhost:{self.port}/library/app:latest",
                f"dir:{self.folder / place}",
            )
            layer = self.folder / place / image.layer.digest.removeprefix("sha256:")
            self.assertEqual(image.layer.size, layer.stat().st_size)

    def test_stalled_handshakes(self) -> None:
        """Clients that stall in the handshake delay no other, and are disconnected after 20 seconds."""
        stalled = [socket.create_connection(("127.0.0.1", self.port), 5) for _ in range(50)]
        for client in stalled:
            self.addCleanup(client.close)
            client.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        began = time.monotonic()
        self.handshake()
        for client in stalled:
            client.setblocking(False)
            self.assertRaises(BlockingIOError, client.recv, 1)
        for client in stalled:
            client.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(b"", client.recv(100))
        self.assertLess(15, time.monotonic() - began)
        self.assertLess(time.monotonic() - began, 40)

    def test_reload_by_signal(self) -> None:
        """A response over TLS is completed after a SIGHUP."""
        blob = self.registry.put_image(20 * MB, seed=3).layer
        self.assertTrue(pull(self.daemon.blob(blob.digest)).is_complete)
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            self.certified.trust().wrap_socket(plain, server_hostname="localhost") as client,
        ):
            request = (
                f"GET /v2/library/app/blobs/{blob.digest} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            client.sendall(request.encode())
            received = len(client.recv(16384))
            self.certified.issue("localhost")
            os.kill(self.daemon.pid, signal.SIGHUP)
            with client.makefile("rb") as file:
                received += len(file.read())
        self.assertGreater(received, blob.size)
