"""The commands that set up clients and certificates, as processes."""

import json
import ssl
from pathlib import Path

from tests.integration.command import CommandCase, mirrord


class ClientTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.folder / "root"
        self.root.mkdir()

    def test_print(self) -> None:
        """The files of each client are printed with the mirror's address, and nothing is written."""
        address = self.config.read_text().split('endpoint = "tcp:')[-1].split(":")[0]
        for client in ("docker", "containerd", "podman", "k3s", "buildkit"):
            ended = self.mirrord("client", client)
            self.assert_ended(ended, 0, "is reachable from this host only")
            self.assertIn(f"127.0.0.1:{address}", ended.out)
            self.assertTrue(ended.out.startswith("# /etc/"), ended.out)

    def test_write(self) -> None:
        """A second write changes nothing, and the operator's settings are kept."""
        daemon_json = self.root / "etc/docker/daemon.json"
        daemon_json.parent.mkdir(parents=True)
        daemon_json.write_text('{"debug": true}')
        for _ in range(2):
            ended = self.mirrord(
                "client", "docker", "--write", "--root", str(self.root), "--mirror", "http://m.lan:5000"
            )
            self.assert_well(ended)
        self.assertEqual(
            json.loads(daemon_json.read_text()), {"debug": True, "registry-mirrors": ["http://m.lan:5000"]}
        )
        self.assertEqual((daemon_json.parent / "daemon.json.bak").read_text(), '{"debug": true}')
        self.assertFalse((daemon_json.parent / "daemon.json.bak2").exists())

    def test_unreadable_password(self) -> None:
        """A client's files are printed even if a password can be read by the service only."""
        self.configure(
            self.admin.endpoint,
            '[[upstream]]\nname = "docker.io"\n[[upstream.account]]\nusername = "me"\n'
            'password_file = "credential:hub"\n',
        )
        self.assert_well(self.mirrord("client", "docker", "--mirror", "http://m.lan"))

    def test_a_bad_configuration(self) -> None:
        """An invalid configuration exits with 1 and the errors."""
        self.config.write_text("[gc]\ninterval = 5\n")
        self.assert_ended(self.mirrord("client", "docker"), 1, "gc.interval")

    def test_no_address(self) -> None:
        """The address of a listener on systemd's port is the daemon's, and unknown without a daemon."""
        self.config.write_text(
            f'[admin]\nendpoint = "{self.admin.endpoint}"\n'
            '[[listen]]\nendpoint = "systemd:domain=INET:index=0"\n'
        )
        self.assert_ended(self.mirrord("client", "docker"), 1, "--mirror")
        listener = {"endpoint": "systemd:domain=INET:index=0", "address": "10.0.0.7:5000"}
        self.admin.respond("GET", "/status", {"listeners": [listener]})
        self.assertIn("http://10.0.0.7:5000", self.mirrord("client", "docker").out)


class SelfSignedTests(CommandCase):
    def test_pair(self) -> None:
        """A usable pair is created, its key readable by the owner only; it is replaced by --force only."""
        folder = self.folder / "tls"
        arguments = ("self-signed", "mirror.lan", "10.0.0.1", "--out", str(folder))
        ended = mirrord(*arguments, home=self.folder)
        self.assert_well(ended)
        certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        for word in (
            "/etc/docker/certs.d/mirror.lan:5000/ca.crt",
            "update-ca-certificates",
            str(certificate),
        ):
            self.assertIn(word, ended.out)
        before = key.read_bytes()
        self.assert_ended(mirrord(*arguments, home=self.folder), 1, "--force")
        self.assertEqual(key.read_bytes(), before)
        self.assert_well(mirrord(*arguments, "--force", home=self.folder))
        self.assertNotEqual(key.read_bytes(), before)

    def test_client_uses_its_name(self) -> None:
        """A listener accepts the pair, and `client` uses the host name in it."""
        folder = self.folder / "tls"
        self.assert_well(
            mirrord("self-signed", "*.lan", "mirror.lan", "--out", str(folder), home=self.folder)
        )
        self.config.write_text(
            f'[[listen]]\nendpoint = "tcp:5443"\ncertificate = "{folder}/fullchain.pem"\n'
            f'key = "{folder}/privkey.pem"\n'
        )
        self.assert_well(self.mirrord("check-config"))
        ended = self.mirrord("client", "containerd", "--ca", str(folder / "fullchain.pem"))
        self.assertIn('[host."https://mirror.lan:5443"]', ended.out)
        self.assertIn(Path(folder / "fullchain.pem").read_text(), ended.out)

    def test_ca_with_key(self) -> None:
        """Only the certificate is printed of a file that also has a key."""
        folder, both = self.folder / "tls", self.folder / "both.pem"
        self.assert_well(mirrord("self-signed", "mirror.lan", "--out", str(folder), home=self.folder))
        certificate = (folder / "fullchain.pem").read_text()
        both.write_text((folder / "privkey.pem").read_text() + certificate)
        ended = self.mirrord("client", "podman", "--ca", str(both))
        self.assertIn(certificate, ended.out)
        self.assertNotIn("PRIVATE", ended.out)

    def test_ipv6(self) -> None:
        """The suggested command has one host, an IPv6 address in brackets."""
        names = ("*.lan", "::1")
        ended = mirrord("self-signed", *names, "--out", str(self.folder / "tls"), home=self.folder)
        self.assertIn("--mirror https://[::1]:5000", ended.out)

    def test_no_folder(self) -> None:
        """If a file cannot be written, the command exits with 1 and its name."""
        ended = mirrord("self-signed", "a", "--out", "/proc/nowhere", home=self.folder)
        self.assert_ended(ended, 1, "/proc/nowhere")
