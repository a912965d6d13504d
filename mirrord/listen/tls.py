"""TLS at the listener: a certificate and its key, TLS 1.2 or later, HTTP/1.1 alone."""

from pathlib import Path

from OpenSSL.crypto import FILETYPE_PEM, load_privatekey
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion

_END = b"-----END CERTIFICATE-----"


def tls_options(certificate: Path, key: Path) -> CertificateOptions:
    """How to greet TLS clients.

    `certificate` holds the server's certificate and then those between it and its root, `key` its
    private key; both are PEM.

    Raises:
        OSError: A file cannot be read.
        OpenSSL.crypto.Error: A file is not what it should be.
    """
    pems = [pem + _END for pem in certificate.read_bytes().split(_END)[:-1]]
    own, *chain = [Certificate.loadPEM(pem).original for pem in pems]
    return CertificateOptions(
        privateKey=load_privatekey(FILETYPE_PEM, key.read_bytes()),
        certificate=own,
        extraCertChain=chain or None,
        insecurelyLowerMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],
    )
