"""Tests of mirrord/upstream/origin.py."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.errors import UpstreamRefused
from mirrord.upstream.origin import WebOrigin, resolve


class OriginTests(SynchronousTestCase):
    def test_default_ports(self) -> None:
        """A URL with the default port of its scheme has the same origin as one without a port."""
        self.assertEqual(
            WebOrigin.of("https://Registry.example"), WebOrigin.of("https://registry.example:443/v2/")
        )
        self.assertNotEqual(WebOrigin.of("https://a.example"), WebOrigin.of("http://a.example:443"))
        self.assertEqual("http://[::1]:5000", str(WebOrigin.of("http://[::1]:5000/x")))

    def test_refused(self) -> None:
        """A URL that is not plain http or https, or has a user, is rejected."""
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
            self.assertRaises(UpstreamRefused, WebOrigin.of, url)

    def test_resolve(self) -> None:
        """A relative reference is resolved, a signed query kept unchanged, a fragment removed."""
        base = "https://a.example/v2/x/tags/list?n=2"
        self.assertEqual(
            "https://a.example/v2/x/tags/list?last=b%2Fc", resolve(base, "/v2/x/tags/list?last=b%2Fc")
        )
        self.assertEqual("https://b.example/?s=a%2b==", resolve(base, "https://b.example/?s=a%2b==#f"))
        self.assertRaises(UpstreamRefused, resolve, base, "javascript:alert(1)")

    @given(st.text(max_size=80))
    def test_anything(self, text: str) -> None:
        """Whatever the Location, it is a URL or rejected."""
        with contextlib.suppress(UpstreamRefused):
            WebOrigin.of(resolve("https://a.example/", text))
