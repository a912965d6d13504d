"""The parameters of TLS: the ciphers, and which clients are accepted."""

from typing import Any

import trustme
from OpenSSL import SSL

from tests.unit.http.certificates_case import X86, CertificateCase, names_of

PI_4 = "processor\t: 0\nFeatures\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt crc32\n"


class CipherTests(CertificateCase):
    def test_processor(self) -> None:
        """Without AES instructions ChaCha20 is preferred, in TLS 1.2 and 1.3; with them AES is."""
        pair = self.certified.issue("mirror.lan")
        for cpuinfo, cipher in ((PI_4, "CHACHA20"), (X86, "AES_128"), ("", "AES_128")):
            certificates = self.load(pair, cpuinfo=cpuinfo)
            older = SSL.Context(SSL.TLS_CLIENT_METHOD)
            older.set_max_proto_version(SSL.TLS1_2_VERSION)
            with self.subTest(cpuinfo=cpuinfo):
                self.assertIn(cipher, self.handshake(certificates).cipher)
                self.assertIn(cipher.replace("_", ""), self.handshake(certificates, context=older).cipher)

    def test_client_without_aes(self) -> None:
        """A client that prefers ChaCha20 gets it from a server with AES instructions."""
        client: Any = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.set_tls13_ciphersuites(b"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256")
        certificates = self.load(self.certified.issue("mirror.lan"))

        self.assertIn("CHACHA20", self.handshake(certificates, context=client).cipher)


class ClientTests(CertificateCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = trustme.CA()
        self.client_ca = self.certified.folder / "clients.pem"
        self.authority.cert_pem.write_to_path(str(self.client_ca))
        self.certificates = self.load(self.certified.issue("mirror.lan"), client_ca=self.client_ca)

    def context(self, authority: trustme.CA | None) -> Any:
        context: Any = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if authority is not None:
            authority.issue_cert("node-7.lan").configure_cert(context)
        return context

    def test_known(self) -> None:
        """A client with a certificate that the authority has signed is accepted, by its name."""
        handshake = self.handshake(self.certificates, context=self.context(self.authority))

        self.assertEqual(["node-7.lan"], names_of(handshake.client))

    def test_unknown(self) -> None:
        """A client without a certificate, or with another authority's, is rejected."""
        for authority in (None, trustme.CA()):
            with self.subTest(authority=authority), self.assertRaises(SSL.Error):
                self.handshake(self.certificates, context=self.context(authority))

    def test_renewed(self) -> None:
        """Another authority for clients is loaded like a certificate."""
        other = trustme.CA()
        other.cert_pem.write_to_path(str(self.client_ca))
        self.certificates.check()

        self.assertEqual(
            ["node-7.lan"], names_of(self.handshake(self.certificates, context=self.context(other)).client)
        )
