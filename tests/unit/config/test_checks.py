"""Checks of the files and endpoints that a configuration names."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.access import AccessConfig, RuleConfig
from mirrord.config.checks import check_files
from mirrord.config.config import AdminConfig, Config, ListenConfig, StoreConfig, UpstreamConfig

AUTHORITY = trustme.CA()


def encrypt(key: bytes) -> bytes:
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
    )


class CheckFilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.config = Config(store=StoreConfig(self.folder))
        certificate = AUTHORITY.issue_cert("mirror.lan")
        self.certificate = self.write(
            "chain.pem", b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        )
        self.key = self.write("key.pem", certificate.private_key_pem.bytes())
        self.junk = self.write("junk.pem", b"-----BEGIN NOTHING-----")

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def listen(self, *listeners: ListenConfig) -> list[str]:
        return self.check(listen=listeners)

    def check(self, environment: Mapping[str, str] | None = None, **changes: Any) -> list[str]:
        return list(check_files(attrs.evolve(self.config, **changes), environment=environment or {}))

    def test_defaults(self) -> None:
        """The defaults have no errors."""
        self.assertEqual(self.check(), [])

    def test_endpoints(self) -> None:
        """An endpoint that Twisted rejects is reported with the path of its key."""
        self.assertEqual(
            self.listen(
                ListenConfig(endpoint="unix:/run/x:mode=660"),
                ListenConfig(endpoint="carrier:pigeon"),
                ListenConfig(endpoint="tcp:5000:bogus=1"),
                ListenConfig(endpoint="unix:/run/x:mode=rw"),
                ListenConfig(endpoint="systemd:domain=INET"),
            ),
            [
                "listen[1].endpoint: Unknown endpoint type: 'carrier'",
                "listen[2].endpoint: got an unexpected keyword argument 'bogus'",
                "listen[3].endpoint: invalid literal for int() with base 8: 'rw'",
                "listen[4].endpoint: Specify exactly one of descriptor index or name",
            ],
        )
        self.assertEqual(
            self.check(admin=AdminConfig("carrier:pigeon")),
            ["admin.endpoint: Unknown endpoint type: 'carrier'"],
        )

    def test_command_socket(self) -> None:
        """A default path of the socket for commands may have 107 bytes; a longer one is reported."""
        store = StoreConfig(Path("/" + "x" * 98))
        self.assertEqual(self.check(store=store), [])
        (line,) = self.check(store=StoreConfig(Path("/" + "x" * 99)))
        self.assertIn("admin.socket: the path of a Unix socket must not exceed 107 bytes; this has 108", line)
        self.assertEqual(
            self.check(store=StoreConfig(Path("/" + "x" * 99)), admin=AdminConfig("unix:/x")), []
        )

    def test_systemd_socket(self) -> None:
        """A socket that systemd passes to the service only is no error of the file."""
        self.assertEqual(self.listen(ListenConfig(endpoint="systemd:domain=INET6:name=https")), [])

    def test_certificate(self) -> None:
        """A certificate or key that is missing, malformed, encrypted or of another pair is an error."""
        other = self.write("other.pem", AUTHORITY.issue_cert("other.lan").private_key_pem.bytes())
        encrypted = self.write("encrypted.pem", encrypt(self.key.read_bytes()))
        absent = self.folder / "absent.pem"
        pairs = [
            (self.certificate, self.key),
            (absent, absent),
            (self.junk, self.junk),
            (self.certificate, other),
            (self.certificate, encrypted),
        ]
        self.assertEqual(
            self.listen(*(ListenConfig(endpoint="tcp:0", certificate=one, key=two) for one, two in pairs)),
            [
                "listen[1].certificate: cannot be opened: No such file or directory",
                "listen[1].key: cannot be opened: No such file or directory",
                "listen[2].certificate: no certificate in PEM",
                "listen[2].key: no private key in PEM, or an encrypted one",
                "listen[3].key: not the key of the certificate",
                "listen[4].key: no private key in PEM, or an encrypted one",
            ],
        )

    def test_ca(self) -> None:
        """The CA of an upstream is checked too."""
        good = self.write("ca.pem", AUTHORITY.cert_pem.bytes())
        upstreams = (
            UpstreamConfig(name="good.lan", url="https://good.lan", ca=good),
            UpstreamConfig(name="junk.lan", url="https://junk.lan", ca=self.junk),
            UpstreamConfig(name="dir.lan", url="https://dir.lan", ca=self.folder),
        )
        self.assertEqual(
            self.check(upstream=upstreams),
            [
                "upstream['junk.lan'].ca: no certificate in PEM",
                "upstream['dir.lan'].ca: cannot be opened: Is a directory",
            ],
        )

    def test_users(self) -> None:
        """The file of users is checked too; a password hashed otherwise than by bcrypt is an error."""

        def check(file: Path) -> list[str]:
            return self.check(access=AccessConfig(file, rules=(RuleConfig(repositories=("*",)),)))

        self.assertEqual(check(self.write("users", b"ann:$2y$05$" + b"a" * 53 + b"\n")), [])
        self.assertEqual(
            check(self.write("md5", b"ann:$apr1$x$y\n")),
            ["access.htpasswd: the password of ann is not hashed by bcrypt; set it with htpasswd -B"],
        )
        self.assertEqual(
            check(self.folder / "none"), ["access.htpasswd: cannot be opened: No such file or directory"]
        )

    def test_proxies_of_the_environment(self) -> None:
        """A variable that is not the URL of an HTTP proxy is reported by name, without its password."""
        message = "must be the URL of an HTTP proxy, http://HOST:PORT"
        for url in (
            "socks5://me:s3cret@proxy:1080",
            "ftp://proxy",
            "http://proxy:99999",
            "http://p:0",
            "http://",
        ):
            with self.subTest(url=url):
                self.assertEqual(self.check({"HTTPS_PROXY": url}), [f"HTTPS_PROXY: {message}"])
        both = {"http_proxy": "socks5://proxy", "HTTP_PROXY": "http://unread", "HTTPS_PROXY": "a b"}
        self.assertEqual(self.check(both), [f"http_proxy: {message}", f"HTTPS_PROXY: {message}"])

    def test_good_proxies_of_the_environment(self) -> None:
        """An HTTP proxy may have a password, use TLS, or lack its scheme; an empty variable is ignored."""
        for url in ("http://me:s3cret@proxy.lan:3128/", "https://proxy.lan", "proxy.lan:8080", "", " "):
            with self.subTest(url=url):
                self.assertEqual(self.check({"HTTPS_PROXY": url, "all_proxy": "socks5://p"}), [])

    def test_unused_proxies_of_the_environment(self) -> None:
        """Where every upstream has its own proxy, those of the environment are not checked."""
        upstreams = (UpstreamConfig(name="own.lan", url="https://own.lan", proxy="http://proxy.lan:3128"),)
        self.assertEqual(self.check({"HTTPS_PROXY": "socks5://proxy"}, upstream=upstreams), [])
