import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.self_signed import make_pair
from mirrord.config.pem import alternative_names


class PairTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The certificate has all given hosts and addresses as names, and is no authority."""
        certificate, key = make_pair(["Mirror.lan", "*.lan", "10.0.0.1", "[fd00::1]"], 10)
        names = [str(name.value) for name in alternative_names(certificate) or ()]
        self.assertEqual(names, ["mirror.lan", "*.lan", "10.0.0.1", "fd00::1"])
        self.assertEqual(certificate.public_key(), key.public_key())
        self.assertEqual(key.curve.name, "secp256r1")
        self.assertFalse(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        addresses = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertIn(ipaddress.ip_address("10.0.0.1"), addresses.get_values_for_type(x509.IPAddress))

    def test_days(self) -> None:
        """The certificate is valid for the given days, and for clocks that are slightly behind."""
        certificate, _ = make_pair(["a"], 10)
        now = datetime.now(UTC)
        left = certificate.not_valid_after_utc - now
        self.assertTrue(timedelta(days=9, hours=23) < left <= timedelta(days=10), left)
        self.assertLess(certificate.not_valid_before_utc, now - timedelta(minutes=30))

    def test_invalid_names(self) -> None:
        """A text that is neither a host name nor an address is rejected."""
        for name in (
            "https://a",
            "a:5000",
            "a b",
            "",
            "-a",
            "a..b",
            "a" * 64,
            "ä.de",
            "*.*.a",
            "a.*",
            "10.0.0.0/8",
        ):
            with self.assertRaises(ValueError, msg=name):
                make_pair([name], 10)

    def test_trust(self) -> None:
        """A client that trusts only this certificate accepts a server with it, under its names alone."""
        certificate, key = make_pair(["mirror.lan"], 10)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pair.pem")
            secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.load_cert_chain(path)
            client = ssl.create_default_context(cafile=str(path))
        _shake_hands(server, client, "mirror.lan")
        with self.assertRaises(ssl.SSLCertVerificationError):
            _shake_hands(server, client, "other.lan")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
