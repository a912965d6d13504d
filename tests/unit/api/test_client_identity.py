"""Tests of mirrord/api/client_identity.py."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.rules import ClientIdentity
from mirrord.api.client_identity import identify
from mirrord.http.forwarded import TrustedProxies
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import MirrorSite
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, Wire, head


def certificate(common_name: str, *names: str) -> x509.Certificate:
    """Return a self-signed certificate of these names."""
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
    return builder.sign(key, None)


class IdentityTests(SynchronousTestCase):
    def setUp(self) -> None:
        proxies = TrustedProxies((ip_network("10.0.0.0/8"),))
        self.site = MirrorSite(Clock(), CallbackResource(self.respond), proxies=proxies)
        self.identities: list[ClientIdentity] = []

    def respond(self, request: MirrorRequest) -> None:
        self.identities.append(identify(request))
        request.respond(Response.whole(200, b""))

    def identity(
        self, *headers: str, peer: str = "192.0.2.7", shown: x509.Certificate | None = None
    ) -> ClientIdentity:
        """Return the identity of a request with these headers from this peer."""
        wire: Any = Wire(peerAddress=IPv4Address("TCP", peer, 4711), lenient=True)
        if peer == "unix":
            wire.peerAddr = UNIXAddress(b"")
        if shown is not None:
            wire.getPeerCertificate = lambda: shown
        Client(self.site, wire).get("/v2/", *headers)
        return self.identities[-1]

    def test_plain(self) -> None:
        """The client is the peer of its connection, and the address of the mirror is its Host."""
        self.assertEqual(self.identity(), ClientIdentity(origin="http://mirror", address="192.0.2.7"))
        self.assertEqual(self.identity("Authorization: Bearer x").authorization, "Bearer x")

    def test_trusted_proxy(self) -> None:
        """A trusted proxy reports the address and the scheme of the client."""
        identity = self.identity("X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https", peer="10.0.0.1")
        self.assertEqual((identity.origin, identity.address), ("https://mirror", "198.51.100.9"))

    def test_unknown_proxy(self) -> None:
        """The address of a client behind an unknown proxy, or of a browser, does not count."""
        for header in (
            "X-Forwarded-For: 127.0.0.1",
            "Forwarded: for=1",
            "X-Real-IP: 1",
            "X-Forwarded-Host: x",
            "X-Forwarded-Port: 443",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Server: x",
            "X-Client-IP: 1",
            "True-Client-IP: 1",
            "CF-Connecting-IP: 1",
            "Via: 1.1 x",
            "Origin: x",
        ):
            self.assertEqual(self.identity(header, peer="127.0.0.1").address, "", header)

    def test_proxy_without_headers(self) -> None:
        """A client that speaks HTTP/1.0 may be a proxy that adds no header, so it is not local."""
        for peer in ("127.0.0.1", "192.0.2.7"):
            wire: Any = Wire(peerAddress=IPv4Address("TCP", peer, 4711), lenient=True)
            Client(self.site, wire).send(head("/v2/", version="HTTP/1.0"))
            self.assertEqual(self.identities.pop().address, "")

    def test_local(self) -> None:
        """The peer of a connection may be local, while proxies elsewhere are trusted."""
        for address in ("127.0.0.1", "::1"):
            self.assertEqual(self.identity(peer=address).address, address)

    def test_forwarded_loopback(self) -> None:
        """A client that a trusted proxy names is never local."""
        for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.1.2.3"):
            self.assertEqual(self.identity(f"X-Forwarded-For: {address}", peer="10.0.0.1").address, "")

    def test_proxy_on_this_host(self) -> None:
        """A client behind a trusted proxy on this host is not local, whether or not the proxy names it."""
        self.site.proxies = TrustedProxies((ip_network("127.0.0.0/8"), ip_network("::1/128")))
        for peer in ("127.0.0.1", "::1"):
            for headers in ((), ("X-Forwarded-For: 127.0.0.1",), ("X-Forwarded-For: nonsense",)):
                self.assertEqual(self.identity(*headers, peer=peer).address, "", headers)
        named = self.identity("X-Forwarded-For: 198.51.100.9", peer="127.0.0.1")
        self.assertEqual(named.address, "198.51.100.9")

    def test_proxy_protocol(self) -> None:
        """A client named by a PROXY header is not local, nor is one whose header names none."""
        self.site.is_proxied = True
        self.site.proxies = TrustedProxies((ip_network("0.0.0.0/0"),))
        self.assertEqual(self.identity(peer="127.0.0.1").address, "")
        self.assertEqual(self.identity(peer="198.51.100.9").address, "198.51.100.9")

    def test_unix_socket(self) -> None:
        """A client of a Unix socket is not local: it may be a proxy; a trusted one names the client."""
        self.assertEqual(self.identity(peer="unix").address, "")
        self.assertEqual(self.identity("X-Forwarded-For: 127.0.0.1", peer="unix").address, "")
        named = self.identity("X-Forwarded-For: 198.51.100.9", peer="unix")
        self.assertEqual(named.address, "198.51.100.9")
        self.site.proxies = TrustedProxies()
        self.assertEqual(self.identity(peer="unix").address, "")
        self.assertEqual(self.identity("Via: 1.1 x", peer="unix").address, "")

    def test_certificate(self) -> None:
        """The names in a certificate are those of the client."""
        self.assertEqual(self.identity(shown=certificate("ci")).certificates, {"ci"})
        shown = certificate("ci", "a.lan", "b.lan")
        self.assertEqual(self.identity(shown=shown).certificates, {"ci", "a.lan", "b.lan"})

    def test_proxys_certificate(self) -> None:
        """The certificate of a proxy does not identify its client."""
        identity = self.identity("X-Forwarded-For: 198.51.100.9", peer="10.0.0.1", shown=certificate("proxy"))
        self.assertEqual(identity.certificates, set())
