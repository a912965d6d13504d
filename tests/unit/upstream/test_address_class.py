"""Tests of mirrord/upstream/address_class.py."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.upstream.address_class import AddressClass

LOOPBACK, LINK_LOCAL = AddressClass.LOOPBACK, AddressClass.LINK_LOCAL
SHARED, PRIVATE, PUBLIC = AddressClass.SHARED, AddressClass.PRIVATE, AddressClass.PUBLIC


def octets(first: str, address: IPv4Address, places: tuple[int, ...]) -> IPv6Address:
    """Return an IPv6 address that begins like `first` and has an IPv4 address at these places."""
    packed = bytearray(IPv6Address(first).packed)
    for place, octet in zip(places, address.packed, strict=True):
        packed[place] = octet
    return IPv6Address(bytes(packed))


class AddressClassTests(SynchronousTestCase):
    def test_literals(self) -> None:
        """The literal of an address has a class in every spelling; a name has none, except for loopback's."""
        expected = {
            LOOPBACK: "127.0.0.1 127.9.9.9 ::1 :: 0.0.0.0 2130706433 127.1 0x7f.1 localhost a.localhost",
            LINK_LOCAL: "169.254.169.254 fe80::1 fe80::1%eth0",
            SHARED: "100.64.0.1 100.100.100.200 100.127.255.255",
            PRIVATE: "10.1.2.3 192.168.0.1 172.16.0.1 fd00::1 fec0::1 224.0.0.1 ff02::1 240.0.0.1 192.0.2.1",
            PUBLIC: "1.1.1.1 2606:4700::1111 100.128.0.1 172.32.0.1",
            None: "registry.example 10.example localhost.example",
        }
        for found, hosts in expected.items():
            for host in hosts.split():
                self.assertIs(found, AddressClass.of_host(host), host)

    @given(
        st.ip_addresses(v=4).filter(lambda address: any(address.packed[1:])),
        st.sampled_from(["10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "1.1.1.1"]),
    )
    def test_embedded(self, drawn: IPv4Address, known: str) -> None:
        """An IPv6 address that stands for an IPv4 address has the class of that address."""
        for address in (drawn, IPv4Address(known)):
            for first, places in (
                ("::ffff:0:0", (12, 13, 14, 15)),
                ("64:ff9b::", (12, 13, 14, 15)),
                ("64:ff9b:1::", (12, 13, 14, 15)),
                ("2002::", (2, 3, 4, 5)),
                ("2002::1", (2, 3, 4, 5)),
            ):
                found = octets(first, address, places)
                self.assertIs(AddressClass.of(address), AddressClass.of(found), found)

    def test_local_translation(self) -> None:
        """Behind the local NAT64 prefix an IPv4 address is recognized at every length that it may have."""
        for places in ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15)):
            for text, found in (
                ("192.168.0.5", PRIVATE),
                ("169.254.169.254", LINK_LOCAL),
                ("1.1.1.1", PUBLIC),
            ):
                address = octets("64:ff9b:1::", IPv4Address(text), places)
                self.assertIs(found, AddressClass.of(address), address)

    def test_teredo(self) -> None:
        """A Teredo address has the class of the client behind it."""
        self.assertIs(PRIVATE, AddressClass.of_host("2001:0:101:101::f5ff:fffe"))
        self.assertIs(PUBLIC, AddressClass.of_host("2001:0:101:101::fefe:fefe"))

    @given(st.ip_addresses())
    def test_every_address(self, address: IPv4Address | IPv6Address) -> None:
        """Every address has a class, the same as that of its literal."""
        self.assertIs(AddressClass.of(address), AddressClass.of_host(str(address)))

    @given(st.text(max_size=40))
    def test_anything(self, text: str) -> None:
        """No text makes the parser fail."""
        AddressClass.of_host(text)
