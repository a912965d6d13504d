"""The address of a client comes from the headers of trusted proxies, and of no others."""

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.forwarded import NO_ADDRESS, TrustedProxies

PROXIES = TrustedProxies((ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7/32")))


class ClientTests(SynchronousTestCase):
    def assert_client(self, client: str, peer: str, forwarded_for: str) -> None:
        self.assertEqual(client, PROXIES.client_of(peer, forwarded_for))

    def test_untrusted(self) -> None:
        """The headers of a peer that is not trusted are ignored."""
        self.assert_client("198.51.100.1", "198.51.100.1", "203.0.113.9")
        self.assertEqual("10.0.0.1", TrustedProxies().client_of("10.0.0.1", "203.0.113.9"))

    def test_from_the_right(self) -> None:
        """The nearest address that is no proxy's is the client's; any client can write what precedes it."""
        self.assert_client("203.0.113.9", "10.0.0.1", "203.0.113.9")
        self.assert_client("203.0.113.9", "10.0.0.1", "1.1.1.1, 203.0.113.9")
        self.assert_client("203.0.113.9", "10.0.0.1", "1.1.1.1, 10.9.9.9, 203.0.113.9 , 10.0.0.2,192.0.2.7")

    def test_proxies_alone(self) -> None:
        """A request that a proxy makes for itself is that of the farthest proxy."""
        self.assert_client("10.0.0.1", "10.0.0.1", "")
        self.assert_client("10.0.0.3", "10.0.0.1", "10.0.0.3, 10.0.0.2")

    def test_unreadable(self) -> None:
        """An entry that is no address ends the search at the proxy that wrote it."""
        self.assert_client("10.0.0.2", "10.0.0.1", "203.0.113.9, unknown, 10.0.0.2")
        self.assert_client("10.0.0.1", "10.0.0.1", "203.0.113.9, ")
        self.assert_client("10.0.0.1", "10.0.0.1", "x" * 100_000)

    def test_spellings(self) -> None:
        """Ports and brackets are removed, and IPv4 mapped to IPv6 is IPv4."""
        self.assert_client("203.0.113.9", "10.0.0.1", "203.0.113.9:4711")
        self.assert_client("2001:db8::1", "::ffff:10.0.0.1", "[2001:db8::1]:4711")
        self.assert_client("2001:db8::1", "fd00::1", "2001:DB8:0::1")
        self.assert_client("203.0.113.9", "10.0.0.1", "::ffff:203.0.113.9")

    def test_unix(self) -> None:
        """On a Unix socket every client is trusted if any proxies are configured."""
        self.assert_client("203.0.113.9", NO_ADDRESS, "203.0.113.9")
        self.assertEqual(NO_ADDRESS, TrustedProxies().client_of(NO_ADDRESS, "203.0.113.9"))


class SchemeTests(SynchronousTestCase):
    def test_scheme(self) -> None:
        """The nearest proxy names the scheme; an unknown scheme, or an untrusted peer's, is ignored."""
        for peer, own, forwarded_proto, scheme in (
            ("10.0.0.1", "http", "https", "https"),
            ("10.0.0.1", "https", "http", "http"),
            ("10.0.0.1", "http", "http, HTTPS ", "https"),
            ("10.0.0.1", "http", "", "http"),
            ("10.0.0.1", "https", "gopher", "https"),
            ("203.0.113.9", "http", "https", "http"),
        ):
            with self.subTest(peer=peer, forwarded_proto=forwarded_proto):
                self.assertEqual(scheme, PROXIES.scheme_of(peer, own, forwarded_proto))
