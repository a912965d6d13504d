import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.addresses import Address


class AddressTests(SynchronousTestCase):
    def test_tcp(self) -> None:
        """The address of a TCP endpoint is its interface; of one on all interfaces, loopback."""
        for endpoint, address in (
            ("tcp:5001:interface=127.0.0.1", Address("127.0.0.1", 5001)),
            ("tcp:5001", Address("127.0.0.1", 5001)),
            ("tcp:port=5001:interface=0.0.0.0:backlog=9", Address("127.0.0.1", 5001)),
            ("tcp:5001:interface=10.0.0.1", Address("10.0.0.1", 5001)),
            ("tcp:5001:10.0.0.1", Address("10.0.0.1", 5001)),
            (r"tcp:5001:interface=\:\:1", Address("::1", 5001)),
            ("tcp6:5001", Address("::1", 5001)),
        ):
            self.assertEqual(Address.parse(endpoint), address, endpoint)
        self.assertTrue(Address.parse("tcp:5001").is_wildcard)
        self.assertFalse(Address.parse("tcp:5001:interface=127.0.0.1").is_wildcard)

    def test_unix_and_url(self) -> None:
        """The address of a Unix socket is its path, of a URL its host and port."""
        for text, address in (
            ("unix:/run/mirrord.sock:mode=660", Address("", 0, "/run/mirrord.sock")),
            (r"unix:address=/run/a\:b", Address("", 0, "/run/a:b")),
            ("/run/a:b", Address("", 0, "/run/a:b")),
            ("./command", Address("", 0, "command")),
            ("http://pi.lan:5001/", Address("pi.lan", 5001)),
            ("http://[::1]:5001", Address("::1", 5001)),
            ("http://pi.lan", Address("pi.lan", 80)),
        ):
            self.assertEqual(Address.parse(text), address, text)

    def test_invalid(self) -> None:
        """A text without an address to connect to is rejected."""
        for text in (
            "",
            "5001",
            "tcp:",
            "tcp:http",
            "systemd:index=0",
            "https://x",
            "http://x/y",
            "http://:1",
            "unix:",
            "http://a b",
            "http://\x01",
            "http://" + "a" * 64,
            "tcp:5001:interface=\udcff",
        ):
            with self.assertRaises(ValueError, msg=text):
                Address.parse(text)

    def test_str(self) -> None:
        """An address is formatted as text that parses to it."""
        for text in ("unix:/run/x", "http://[::1]:5001", "http://10.0.0.1:5001"):
            self.assertEqual(str(Address.parse(text)), text)

    def test_planted_link(self) -> None:
        """A link in place of the socket is not followed to another socket."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
            other, link = Path(folder, "other"), Path(folder, "command")
            listening.bind(str(other))
            listening.listen()
            link.symlink_to(other)
            Address.of_socket(other).connection(5).connect()
            self.assertRaises(OSError, Address.of_socket(link).connection(5).connect)

    def test_unix_socket(self) -> None:
        """HTTP over a Unix socket has localhost as its host."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
            path = str(Path(folder, "s"))
            listening.bind(path)
            listening.listen()
            connection = Address.parse(f"unix:{path}").connection(5)
            connection.request("GET", "/x")
            accepted, _ = listening.accept()
            with accepted:
                request = accepted.recv(4096)
            connection.close()
        self.assertTrue(request.startswith(b"GET /x HTTP/1.1\r\nHost: localhost\r\n"), request)
