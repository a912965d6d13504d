"""Types of the configuration file: durations, sizes, origins, endpoints and names."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.types import (
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_endpoint,
    parse_origin,
    parse_seconds,
    parse_upstream_name,
)


class QuantityTests(SynchronousTestCase):
    def test_durations(self) -> None:
        """A duration in any unit is parsed to seconds."""
        for text, seconds in (
            ("500ms", 0.5),
            ("30s", 30.0),
            ("5m", 300.0),
            ("12 h", 43_200.0),
            ("1.5d", 129_600.0),
        ):
            self.assertEqual(parse_seconds(text), seconds)

    def test_sizes(self) -> None:
        """A size is parsed to bytes; KiB is 1024 bytes and KB is 1000."""
        for text, size in (("7 B", 7), ("512 KiB", 524_288), ("50GiB", 53_687_091_200), ("2 TB", 2 * 10**12)):
            self.assertEqual(parse_bytes(text), size)

    def test_no_other_numbers(self) -> None:
        """Signs, exponents, missing units and stray spaces are rejected."""
        for text in (
            "",
            "5",
            "s",
            " 5s",
            "5s ",
            "5  s",
            "+5s",
            "1e3s",
            "\u0665s",
            "5S",
            "0x5s",
            "1_000s",
            "inf s",
            ".5s",
            "5\ns",
        ):
            self.assertRaises(ValueError, parse_seconds, text)

    @given(st.integers(0, 36_500 * 86_400_000))
    def test_seconds_round_trip(self, milliseconds: int) -> None:
        """Formatting and parsing a duration round-trips."""
        self.assertEqual(parse_seconds(format_seconds(milliseconds / 1000)), milliseconds / 1000)

    @given(st.integers(0, 2**60))
    def test_bytes_round_trip(self, size: int) -> None:
        """Formatting and parsing a size round-trips."""
        self.assertEqual(parse_bytes(format_bytes(size)), size)

    def test_largest_unit(self) -> None:
        """A quantity is formatted in the largest unit of which it is a whole number."""
        self.assertEqual(
            [format_seconds(each) for each in (0, 0.25, 90, 3600, 604_800)],
            ["0ms", "250ms", "90s", "1h", "7d"],
        )
        self.assertEqual(
            [format_bytes(each) for each in (0, 1023, 2**30, 10**9)], ["0 B", "1023 B", "1 GiB", "1 GB"]
        )


class OriginTests(SynchronousTestCase):
    def test_origin(self) -> None:
        """An origin is a scheme and a host in lowercase, with a port where the URL has one."""
        for text, origin in (
            ("https://Registry.LAN/", "https://registry.lan"),
            ("HTTP://10.0.0.1:5000", "http://10.0.0.1:5000"),
            ("http://[::1]:5000", "http://[::1]:5000"),
        ):
            self.assertEqual(parse_origin(text), origin)

    @given(st.text() | st.text().map("https://{}".format) | st.from_regex(r"https?://[a-z.:@/?#\[\]0-9]*"))
    def test_only_origins(self, text: str) -> None:
        """A parsed origin parses to itself; any other text is a ValueError."""
        try:
            origin = parse_origin(text)
        except ValueError:
            return
        self.assertEqual(parse_origin(origin), origin)
        self.assertRegex(origin, r"\Ahttps?://[a-z0-9\[][^/@?#\s]*\Z")


class EndpointTests(SynchronousTestCase):
    def test_endpoints(self) -> None:
        """Endpoints of every documented kind are accepted unchanged."""
        for text in (
            "tcp:5000",
            "tcp:port=5000:interface=127.0.0.1:backlog=5",
            "tcp:5000:127.0.0.1",
            "tcp:interface=127.0.0.1:port=5000",
            "tcp6:5000:interface=\\:\\:1",
            "tcp6:5000:interface=fe80\\:\\:1%eth0",
            "unix:/run/mirrord.sock:mode=660",
            "systemd:domain=INET6:name=https",
        ):
            self.assertEqual(parse_endpoint(text), text)

    def test_errors(self) -> None:
        """An endpoint without a kind or arguments, or whose interface is no address, is rejected."""
        for text in ("", ":", ":5000", "tcp", "tcp:", "tcp:5000:interface=localhost", "tcp6:0:localhost"):
            self.assertRaises(ValueError, parse_endpoint, text)


class NameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """An upstream's name is a host in lowercase, with or without a port."""
        for text in ("ghcr.io", "registry.lan:5000", "localhost", "10.0.0.1:5000", "[::1]:5000"):
            self.assertEqual(parse_upstream_name(text), text)
        for text in ("", "GHCR.io", "https://x", "a/b", "-x", "x-", "x:", "x:123456", "a b", "a\n"):
            self.assertRaises(ValueError, parse_upstream_name, text)
