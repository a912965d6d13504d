"""Certificates and keys in PEM files.

A malformed file is a ValueError whose message does not contain the path: the caller knows the file or the
key of the configuration.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import (
    Certificate,
    DNSName,
    DuplicateExtension,
    ExtensionNotFound,
    SubjectAlternativeName,
    UnsupportedGeneralNameType,
    load_pem_x509_certificates,
)
from cryptography.x509.oid import NameOID


def read_certificates(file: Path) -> list[Certificate]:
    """Read all certificates of a file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file contains no certificate.
    """
    content = file.read_bytes()
    try:
        return load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError("no certificate in PEM") from None


def read_key(file: Path, certificate: Certificate | None) -> CertificateIssuerPrivateKeyTypes:
    """Read a private key; check that it belongs to `certificate`, if one is given.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file contains no usable key, or that of another certificate.
    """
    content = file.read_bytes()
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("no private key in PEM, or an encrypted one") from None
    if certificate is not None and not _belongs(key, certificate):
        raise ValueError("not the key of the certificate")
    return key  # type: ignore[return-value]


def common_names(certificate: Certificate) -> tuple[str, ...]:
    """Return the common names of the subject, as a rule one or none."""
    return tuple(str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))


def alternative_names(certificate: Certificate) -> SubjectAlternativeName | None:
    """Return the subject alternative names; None if there are none or they cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, DuplicateExtension, UnsupportedGeneralNameType, ValueError):
        return None


def dns_names(certificate: Certificate) -> tuple[str, ...]:
    """Return the DNS names among the subject alternative names."""
    names = alternative_names(certificate)
    return () if names is None else tuple(names.get_values_for_type(DNSName))


def _belongs(key: PrivateKeyTypes, certificate: Certificate) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
