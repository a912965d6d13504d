"""Tests of mirrord/upstream/address_policy.py."""

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.errors import UpstreamRefused
from mirrord.upstream.address_policy import AddressPolicy, GuardedEndpoint
from tests.unit.upstream.sockets import REACTOR, SocketTestCase, until

PUBLIC = IPv4Address("TCP", "1.1.1.1", 443)
LAN = IPv4Address("TCP", "192.168.0.7", 443)
HOME = "registry.example"


class AddressPolicyTests(SynchronousTestCase):
    def test_public_upstream(self) -> None:
        """A public upstream may point to public addresses only, by name or literal."""
        policy = AddressPolicy(HOME, ())
        policy.check_peer(HOME, PUBLIC)
        policy.check_host("cdn.example")
        policy.check_peer("cdn.example", PUBLIC)
        policy.check_peer("cdn.example", IPv6Address("TCP", "2606:4700::1111", 443))

        for address in (LAN, IPv6Address("TCP", "::1", 443), IPv6Address("TCP", "::ffff:127.0.0.1", 443)):
            self.assertRaises(UpstreamRefused, policy.check_peer, "cdn.example", address)
        for host in ("127.0.0.1", "localhost", "x.localhost"):
            self.assertRaises(UpstreamRefused, policy.check_host, host)

    def test_private_upstream(self) -> None:
        """An upstream that resolves to a private address may point to others."""
        policy = AddressPolicy(HOME, ())
        self.assertRaises(UpstreamRefused, policy.check_peer, "cdn.example", LAN)
        policy.check_peer(HOME, LAN)
        policy.check_peer("cdn.example", LAN)
        policy.check_host("10.0.0.1")

    def test_public_then_private(self) -> None:
        """An upstream that was public gives no access to our network when its name resolves to it later."""
        policy = AddressPolicy(HOME, ())
        policy.check_peer(HOME, PUBLIC)
        policy.check_peer(HOME, LAN)
        self.assertRaises(UpstreamRefused, policy.check_host, "169.254.169.254")
        self.assertRaises(UpstreamRefused, policy.check_peer, "cdn.example", LAN)

    def test_configured_hosts(self) -> None:
        """The upstream's own host and its configured realm are never rejected."""
        policy = AddressPolicy(HOME, ("auth.example", "10.0.0.9"))
        policy.check_peer(HOME, PUBLIC)
        policy.check_peer("auth.example", LAN)
        policy.check_host("10.0.0.9")


class GuardedEndpointTests(SocketTestCase):
    async def test_not_a_byte(self) -> None:
        """A connection to a private address is closed before a byte is sent."""
        server, port = self.listen(lambda peer, head: None)

        class Connected(Protocol):
            def connectionMade(self) -> None:
                raise AssertionError("connected")

        endpoint = GuardedEndpoint(
            HostnameEndpoint(REACTOR, "127.0.0.1", port), AddressPolicy(HOME, ()), "cdn.example"
        )
        with self.assertRaises(UpstreamRefused):
            await endpoint.connect(Factory.forProtocol(Connected))

        await until(lambda: len(server.peers) == 1 and server.peers[0].is_lost)
        self.assertEqual(b"", server.peers[0].received)
