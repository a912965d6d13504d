"""Tests of mirrord/config/pem.py: the names in a certificate."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.pem import alternative_names, common_names, dns_names


def certificate(common: list[str], *extensions: x509.ExtensionType) -> x509.Certificate:
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in common])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, None)


class NameTests(SynchronousTestCase):
    def test_both(self) -> None:
        """Common names and alternative names are read apart; only DNS names are DNS names."""
        names = x509.SubjectAlternativeName(
            [x509.DNSName("Node.lan"), x509.IPAddress(ip_address("10.0.0.1")), x509.DNSName("*.lan")]
        )
        both = certificate(["Node 7"], names)
        self.assertEqual(common_names(both), ("Node 7",))
        self.assertEqual(alternative_names(both), names)
        self.assertEqual(dns_names(both), ("Node.lan", "*.lan"))

    def test_neither(self) -> None:
        """A certificate without names, or whose extension is not an extension of names, has none."""
        broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x04\x00")
        for one in (certificate([]), certificate([], broken)):
            self.assertEqual(common_names(one), ())
            self.assertIsNone(alternative_names(one))
            self.assertEqual(dns_names(one), ())
