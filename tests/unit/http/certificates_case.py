"""Certificates of a test's own, and a client that looks at the one it is presented."""

import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate, DNSName, SubjectAlternativeName
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mirrord.config.config import CertificateConfig
from mirrord.http.certificates import Certificates
from mirrord.http.tls_context import CipherPreference
from tests.fakes.certified import Certified

NOW = datetime(2030, 1, 1, tzinfo=UTC)
X86 = "flags\t\t: fpu vme aes avx\n"


class CertificateCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.certified = Certified(Path(tempfile.mkdtemp()))
        self.clock = Clock()
        self.now = NOW.timestamp()
        self.warnings: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event.get("log_level") is LogLevel.warn:
                self.warnings.append(event["trouble"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def load(
        self, *pairs: CertificateConfig, client_ca: Path | None = None, cpuinfo: str = X86
    ) -> Certificates:
        ciphers = CipherPreference.for_processor(cpuinfo)
        return Certificates.load(
            pairs, client_ca=client_ca, ciphers=ciphers, clock=self.clock, wall_clock=lambda: self.now
        )

    def handshake(
        self, certificates: Certificates, name: str | None = "mirror.lan", **options: Any
    ) -> "Handshake":
        """Do a TLS handshake over a pair of sockets, alternating between the two sides."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            context = options.get("context") or SSL.Context(SSL.TLS_CLIENT_METHOD)
            client: Any = SSL.Connection(context, theirs)
            client.set_connect_state()
            if name is not None:
                client.set_tlsext_host_name(name.encode())
            server: Any = certificates.accept(ours)
            for end in (client, server) * 3:
                try:
                    end.do_handshake()
                except SSL.WantReadError:
                    continue
            return Handshake(client, server)


class Handshake:
    def __init__(self, client: Any, server: Any) -> None:
        self.certificate = client.get_peer_certificate(as_cryptography=True)
        self.names = names_of(self.certificate)
        self.cipher = client.get_cipher_name()
        self.client = server.get_peer_certificate(as_cryptography=True)


def names_of(certificate: Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    return names.get_values_for_type(DNSName)
