"""Tests of mirrord/upstream/address_policy.py."""

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.errors import UpstreamRefused
from mirrord.upstream.address_policy import AddressPolicy, GuardedEndpoint
from mirrord.upstream.origin import WebOrigin
from tests.unit.upstream.sockets import REACTOR, SocketTestCase, until

HOME = WebOrigin.of("https://registry.example")
CDN = WebOrigin.of("https://cdn.example")


def at(host: str) -> IAddress:
    kind = IPv6Address if ":" in host else IPv4Address
    address: IAddress = kind("TCP", host, 443)
    return address


CLASSES = {
    "loopback": ("127.0.0.1", "::1", "0.0.0.0", "64:ff9b::7f00:1", "2002:7f00:1::1"),
    "link-local": ("169.254.169.254", "fe80::1%eth0", "::ffff:169.254.169.254"),
    "shared": ("100.64.0.1", "64:ff9b:1::6440:1"),
    "private": ("192.168.0.7", "10.0.0.1", "fd00::1", "64:ff9b::a00:1"),
}
PUBLIC = ("1.1.1.1", "2606:4700::1111", "64:ff9b::101:101")


class AddressPolicyTests(SynchronousTestCase):
    def allows(self, policy: AddressPolicy, host: str) -> bool:
        """Return whether a redirect to an address is followed, which must not depend on how it is named."""
        verdicts = set()
        literal = WebOrigin.of(f"https://[{host}]" if ":" in host else f"https://{host}")
        for check in (
            lambda: policy.check_origin(literal),
            lambda: policy.check_peer(literal, at(host)),
            lambda: policy.check_peer(CDN, at(host)),
        ):
            try:
                check()
                verdicts.add(True)
            except UpstreamRefused:
                verdicts.add(False)
        (verdict,) = verdicts
        return verdict

    def assert_allows(self, policy: AddressPolicy, *allowed: str) -> None:
        """Check that redirects to these classes, and to public addresses, are followed, and to no others."""
        policy.check_origin(CDN)
        for host in PUBLIC:
            self.assertTrue(self.allows(policy, host), host)
        for name, hosts in CLASSES.items():
            for host in hosts:
                self.assertEqual(name in allowed, self.allows(policy, host), (name, host))

    def test_own_class(self) -> None:
        """An upstream may point to addresses of its own class and to public ones only."""
        for name, hosts in CLASSES.items():
            for host in hosts:
                policy = AddressPolicy(HOME, ())
                self.assert_allows(policy)
                policy.check_peer(HOME, at(host))
                self.assert_allows(policy, name)
        policy = AddressPolicy(HOME, ())
        policy.check_peer(HOME, at("1.1.1.1"))
        self.assert_allows(policy)

    def test_literal_upstream(self) -> None:
        """The class of an upstream whose url has an address, or localhost, is known before connecting."""
        self.assert_allows(AddressPolicy(WebOrigin.of("http://10.0.0.1:5000"), ()), "private")
        for url in ("http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost:5000"):
            self.assert_allows(AddressPolicy(WebOrigin.of(url), ()), "loopback")

    def test_names_of_loopback(self) -> None:
        """The names of loopback are of its class."""
        private = AddressPolicy(WebOrigin.of("https://10.0.0.1"), ())
        own = AddressPolicy(WebOrigin.of("http://127.0.0.1:5000"), ())
        for host in ("localhost", "x.localhost"):
            origin = WebOrigin.of(f"https://{host}:5001")
            self.assertRaises(UpstreamRefused, private.check_origin, origin)
            own.check_origin(origin)

    def test_rebinding(self) -> None:
        """An upstream whose name resolves to a nearer address later gains nothing by that."""
        policy = AddressPolicy(HOME, ())
        policy.check_peer(HOME, at("192.168.0.7"))
        policy.check_peer(HOME, at("127.0.0.1"))
        self.assert_allows(policy, "private")
        policy.check_peer(HOME, at("1.1.1.1"))
        policy.check_peer(HOME, at("192.168.0.7"))
        self.assert_allows(policy)

    def test_other_port_of_the_upstream(self) -> None:
        """Another port of the upstream's host is judged by its address, like any other origin."""
        policy = AddressPolicy(HOME, ())
        other = WebOrigin.of("https://registry.example:5001")
        policy.check_peer(HOME, at("192.168.0.7"))
        policy.check_peer(other, at("192.168.0.7"))
        self.assertRaises(UpstreamRefused, policy.check_peer, other, at("127.0.0.1"))

    def test_configured(self) -> None:
        """The host and port of the upstream and of its configured realm are never rejected."""
        realms = [WebOrigin.of("https://auth.example"), WebOrigin.of("https://10.0.0.9")]
        policy = AddressPolicy(HOME, realms)
        policy.check_peer(HOME, at("1.1.1.1"))
        policy.check_peer(realms[0], at("192.168.0.7"))
        policy.check_origin(realms[1])
        policy.check_peer(HOME, at("127.0.0.1"))
        other = WebOrigin.of("https://10.0.0.9:9000")
        self.assertRaises(UpstreamRefused, policy.check_origin, other)


class GuardedEndpointTests(SocketTestCase):
    async def test_not_a_byte(self) -> None:
        """A connection to an address that is not allowed is closed before a byte is sent."""
        server, port = self.listen(lambda peer, head: None)

        class Connected(Protocol):
            def connectionMade(self) -> None:
                raise AssertionError("connected")

        endpoint = GuardedEndpoint(HostnameEndpoint(REACTOR, "127.0.0.1", port), AddressPolicy(HOME, ()), CDN)
        with self.assertRaises(UpstreamRefused):
            await endpoint.connect(Factory.forProtocol(Connected))

        await until(lambda: len(server.peers) == 1 and server.peers[0].is_lost)
        self.assertEqual(b"", server.peers[0].received)
