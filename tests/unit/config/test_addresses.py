"""Tests of mirrord/config/addresses.py."""

from ipaddress import IPv4Address, IPv6Address

from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.addresses import EndpointDescription, client_network, parse_address


class AddressTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """Both families are parsed; an IPv4-mapped address is the IPv4 address."""
        for text, address in (
            ("192.0.2.1", IPv4Address("192.0.2.1")),
            ("2001:db8::1", IPv6Address("2001:db8::1")),
            ("fe80::1%eth0", IPv6Address("fe80::1%eth0")),
            ("::ffff:192.0.2.1", IPv4Address("192.0.2.1")),
            ("::FFFF:c000:201", IPv4Address("192.0.2.1")),
            ("::192.0.2.1", IPv6Address("::c000:201")),
        ):
            self.assertEqual(parse_address(text), address, text)

    def test_other_text(self) -> None:
        """Anything else is None: names, ports, networks, brackets and the spellings of inet_aton."""
        for text in ("", "unix", "localhost", "192.0.2.1:80", "[::1]", "10.0.0.0/8", "127.1", "010.0.0.1"):
            self.assertIsNone(parse_address(text), text)


class NetworkTests(SynchronousTestCase):
    def test_networks(self) -> None:
        """A client is an address of IPv4 or a /64 of IPv6; text without an address stays as it is."""
        for text, network in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1:2:3:4", "2001:db8::/64"),
            ("2001:db8:0:1::", "2001:db8:0:1::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("unix", "unix"),
        ):
            self.assertEqual(client_network(text), network, text)


class EndpointTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Arguments are separated by colons without a backslash, and named where they have an `=`."""
        for text, kind, positional, named in (
            ("tcp:5000", "tcp", ("5000",), {}),
            ("tcp:5000:interface=127.0.0.1", "tcp", ("5000",), {"interface": "127.0.0.1"}),
            ("tcp6:port=0:interface=\\:\\:1", "tcp6", (), {"port": "0", "interface": "::1"}),
            ("unix:/run/a\\:b:mode=660", "unix", ("/run/a:b",), {"mode": "660"}),
            ("systemd:domain=INET:index=0", "systemd", (), {"domain": "INET", "index": "0"}),
            ("tcp", "tcp", (), {}),
            ("tcp:5000:", "tcp", ("5000", ""), {}),
        ):
            self.assertEqual(
                EndpointDescription.parse(text), EndpointDescription(kind, positional, named), text
            )

    def test_argument(self) -> None:
        """A name wins over a position; what is given by neither is empty."""
        description = EndpointDescription.parse("tcp:5000:interface=127.0.0.1")
        self.assertEqual(
            [description.argument(*given) for given in (("port", 0), ("interface", 1), ("backlog", 2))],
            ["5000", "127.0.0.1", ""],
        )
