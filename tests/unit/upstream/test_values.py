"""Tests of the small values of mirrord/upstream: origin.py, ranges.py, quota.py, deadline.py (Retry-After)."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from mirrord.oci.errors import UpstreamRefused
from mirrord.upstream.deadline import parse_retry_after
from mirrord.upstream.origin import Origin, is_private, resolve
from mirrord.upstream.quota import Quota
from mirrord.upstream.ranges import ContentRange, Validator, range_header


class OriginTests(SynchronousTestCase):
    def test_default_ports(self) -> None:
        """A URL with the port that its scheme has anyway is of the same origin as one without."""
        self.assertEqual(Origin.of("https://Registry.example"), Origin.of("https://registry.example:443/v2/"))
        self.assertNotEqual(Origin.of("https://a.example"), Origin.of("http://a.example:443"))
        self.assertEqual("http://[::1]:5000", str(Origin.of("http://[::1]:5000/x")))

    def test_refused(self) -> None:
        """What is no plain http or https URL is refused, and one that names a user is."""
        for url in [
            "",
            "/v2/",
            "ftp://a/",
            "https://",
            "https://u:p@a/",
            "https://a:x/",
            "https://a/\r\nb",
            "a b",
        ]:
            self.assertRaises(UpstreamRefused, Origin.of, url)

    def test_resolve(self) -> None:
        """A relative reference is read at its base, a signed query stays as it is, a fragment goes."""
        base = "https://a.example/v2/x/tags/list?n=2"
        self.assertEqual(
            "https://a.example/v2/x/tags/list?last=b%2Fc", resolve(base, "/v2/x/tags/list?last=b%2Fc")
        )
        self.assertEqual("https://b.example/?s=a%2b==", resolve(base, "https://b.example/?s=a%2b==#f"))
        self.assertRaises(UpstreamRefused, resolve, base, "javascript:alert(1)")

    def test_private(self) -> None:
        """The literals of addresses that the internet does not reach are told, however they are spelled."""
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fe80::1%eth0",
            "fd00::1",
            "::ffff:192.168.0.1",
            "0.0.0.0",
            "2130706433",
            "127.1",
            "0x7f.1",
            "224.0.0.1",
        ]:
            self.assertTrue(is_private(host), host)
        for host in ["1.1.1.1", "2606:4700::1111", "registry.example", "localhost", "10.example"]:
            self.assertFalse(is_private(host), host)

    @given(st.text(max_size=80))
    def test_anything(self, text: str) -> None:
        """Whatever a Location says, it is a URL or it is refused."""
        try:
            Origin.of(resolve("https://a.example/", text))
        except UpstreamRefused:
            pass
        is_private(text)


class RangeTests(SynchronousTestCase):
    def test_asking(self) -> None:
        """A range is asked for by its last byte, and the whole by nothing."""
        self.assertIsNone(range_header(0, None))
        self.assertEqual("bytes=5-", range_header(5, None))
        self.assertEqual("bytes=0-0", range_header(0, 1))

    def test_content_range(self) -> None:
        """What a Content-Range says is read, also of unknown size and of nothing; nonsense is none."""
        self.assertEqual(ContentRange(5, 10, 10), ContentRange.parse("bytes 5-9/10"))
        self.assertEqual(ContentRange(0, 1, None), ContentRange.parse("bytes 0-0/*"))
        self.assertEqual(ContentRange(None, None, 0), ContentRange.parse("bytes */0"))
        for text in [None, "", "bytes 9-5/10", "bytes 5-10/10", "items 0-1/2", "bytes 0-1"]:
            self.assertIsNone(ContentRange.parse(text), text)

    def test_validator(self) -> None:
        """A strong ETag is kept with its origin; a weak one is worth nothing."""
        origin = Origin.of("https://cdn.example")
        validator = Validator.of(origin, '"abc"')
        self.assertEqual('https://cdn.example "abc"', str(validator))
        self.assertEqual(validator, Validator.parse(str(validator)))
        self.assertIsNone(Validator.of(origin, 'W/"abc"'))
        self.assertIsNone(Validator.parse("nonsense"))
        self.assertIsNone(Validator.parse(None))


class QuotaTests(SynchronousTestCase):
    def test_docker_hub(self) -> None:
        """The figures of Docker Hub are read with their window and for whom they are."""
        headers = Headers(
            {
                "ratelimit-limit": ["100;w=21600"],
                "ratelimit-remaining": ["76;w=21600"],
                "docker-ratelimit-source": ["192.0.2.1"],
            }
        )
        quota = Quota.parse(headers)
        self.assertEqual(Quota(100, 76, 21600, "192.0.2.1"), quota)
        self.assertEqual("76 of 100", str(quota))

    def test_unknown(self) -> None:
        """What is not said, or said wrongly, is unknown and not nought."""
        self.assertIsNone(Quota.parse(Headers()))
        self.assertIsNone(Quota.parse(Headers({"ratelimit-limit": ["lots"]})))
        self.assertEqual("unknown", str(Quota()))


class RetryAfterTests(SynchronousTestCase):
    def test_seconds_and_dates(self) -> None:
        """Seconds are taken as they are, a date as its distance from the answer's own Date."""
        date = "Sat, 21 Nov 2026 10:00:00 GMT"
        self.assertEqual(60, parse_retry_after(" 60 ", None))
        self.assertEqual(90, parse_retry_after("Sat, 21 Nov 2026 10:01:30 GMT", date))
        self.assertEqual(0, parse_retry_after("Sat, 21 Nov 2026 09:00:00 GMT", date))

    def test_nonsense(self) -> None:
        """What is neither says nothing."""
        for text in [None, "", "soon", "-1", "1.5", "²"]:
            self.assertIsNone(parse_retry_after(text, "Sat, 21 Nov 2026 10:00:00 GMT"), text)
        self.assertIsNone(parse_retry_after("Sat, 21 Nov 2026 10:01:30 GMT", None))
