"""A certificate authority of a test's own, its files, and the clients that trust it."""

import ssl
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import trustme

from mirrord.config.config import CertificateConfig
from mirrord.http.certificates import Certificates
from mirrord.http.tls_context import CipherPreference


@attrs.define(eq=False)
class Certified:
    """A folder of certificates, with their keys, that one authority has signed."""

    folder: Path
    authority: trustme.CA = attrs.field(factory=trustme.CA)

    def issue(
        self,
        *names: str,
        file: str = "mirror",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> CertificateConfig:
        """Write a certificate for these names and its key, replacing any previous ones."""
        issued = self.authority.issue_cert(*names, not_before=since, not_after=until)
        files = CertificateConfig(self.folder / f"{file}.pem", self.folder / f"{file}.key")
        files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        files.key.write_bytes(issued.private_key_pem.bytes())
        return files

    def certificates(self, *pairs: CertificateConfig, client_ca: Path | None = None) -> Certificates:
        """Return a listener's certificates, by a clock that stands still."""
        clock: Any = None
        ciphers = CipherPreference.for_processor("")
        return Certificates.load(
            pairs, client_ca=client_ca, ciphers=ciphers, clock=clock, wall_clock=lambda: 0.0
        )

    def trust(self) -> ssl.SSLContext:
        """Return a client's context that trusts them."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context
