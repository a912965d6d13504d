"""OpenSSL contexts: the parameters of TLS with clients, whatever the certificate.

TLS 1.2 or later, forward-secret and authenticated ciphers only, no compression and no resumption: docker,
containerd and podman keep no sessions, so tickets would be sent in vain. OpenSSL itself rejects renegotiation
by clients since its version 3.
"""

import re
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509 import Certificate
from OpenSSL import SSL

_AES_128 = b"TLS_AES_128_GCM_SHA256"
_AES_256 = b"TLS_AES_256_GCM_SHA384"
_CHACHA = b"TLS_CHACHA20_POLY1305_SHA256"

_PROTOCOLS = (b"http/1.1", b"http/1.0")
"""HTTP/1.1 only: no client of a mirror requires h2, and Twisted's h2 cuts slow responses short."""

# From OpenSSL's ssl.h; not every version of pyOpenSSL defines them.
_OP_IGNORE_UNEXPECTED_EOF = 1 << 7
_OP_PRIORITIZE_CHACHA = 1 << 21
_MODE_ENABLE_PARTIAL_WRITE = 1

_OPTIONS = (
    SSL.OP_CIPHER_SERVER_PREFERENCE
    # A client that prefers ChaCha20, as older Pis do, gets it from an x86 too.
    | _OP_PRIORITIZE_CHACHA
    | SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_TICKET
    # Many clients close without close_notify; HTTP delimits its messages itself (RFC 9112, section 9.8).
    | _OP_IGNORE_UNEXPECTED_EOF
)

_FLAGS = re.compile(r"^(?:flags|Features)\s*:(.*)$", re.MULTILINE)


@attrs.frozen
class CipherPreference:
    """The cipher suites in order of preference: of TLS 1.3, and of TLS 1.2 in OpenSSL's other syntax."""

    tls13: bytes
    tls12: bytes

    @classmethod
    def for_processor(cls, cpuinfo: str) -> "CipherPreference":
        """Return the cheapest first, for the processor that /proc/cpuinfo describes.

        Without AES instructions (all Raspberry Pis before the fifth) ChaCha20 costs a third of AES.
        """
        flags = _FLAGS.search(cpuinfo)
        if flags is not None and "aes" not in flags[1].split():
            return cls(
                b":".join((_CHACHA, _AES_128, _AES_256)), b"ECDHE+CHACHA20:ECDHE+AESGCM+AES128:ECDHE+AESGCM"
            )
        return cls(
            b":".join((_AES_128, _AES_256, _CHACHA)), b"ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20"
        )


def server_context(
    chain: list[Certificate],
    key: CertificateIssuerPrivateKeyTypes,
    client_ca: Path | None,
    ciphers: CipherPreference,
) -> Any:
    """Return an OpenSSL.SSL.Context for `chain`, the server's own certificate first.

    With `client_ca`, a client has to present a certificate that is signed by one of those in that file.

    Raises:
        OpenSSL.SSL.Error: OpenSSL rejects one of them.
    """
    context: Any = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    # One call encrypts and sends all of its data, not a single record.
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    # Free 34 KiB of buffers per connection while it is idle: podman idles for 90 s.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_tls13_ciphersuites(ciphers.tls13)
    context.set_cipher_list(ciphers.tls12)
    context.set_alpn_select_callback(_choose_protocol)
    own, *others = chain
    context.use_certificate(own)
    for other in others:
        context.add_extra_chain_cert(other)
    context.use_privatekey(key)
    context.check_privatekey()
    if client_ca is not None:
        context.load_verify_locations(str(client_ca))
        context.load_client_ca(bytes(client_ca))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return context


def _choose_protocol(_: SSL.Connection, offered: list[bytes]) -> bytes:
    """Return the first of ours that is offered; if there is none, send an alert (RFC 7301, section 3.2)."""
    for protocol in _PROTOCOLS:
        if protocol in offered:
            return protocol
    raise SSL.Error([("", "", "none of the client's protocols is supported")])
