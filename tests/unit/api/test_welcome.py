"""Tests of mirrord/api/welcome.py."""

import base64
import hashlib
import re
from html import unescape

from twisted.internet.interfaces import ISSLTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from mirrord.api.welcome import accepts_html, welcome_page
from mirrord.client_config import RECIPES, MirrorAddress, Registry
from tests.fakes.repositories import HUB
from tests.fakes.wire import Got
from tests.unit.api.cases import APICase

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def page(host: bytes, upstream: str = "docker.io", *, is_secure: bool = False) -> str:
    return welcome_page(host, upstream, is_secure=is_secure).body.decode()


class AcceptTests(SynchronousTestCase):
    def test_browser(self) -> None:
        """A client that accepts HTML by name is a browser."""
        for accept in (
            BROWSER.partition(": ")[2],
            "TEXT/HTML",
            "a/b, text/html;level=1;q=0.2",
            "text/html; q=1",
        ):
            self.assertTrue(accepts_html(accept.encode()), accept)

    def test_others(self) -> None:
        """A client that accepts anything, has no Accept header, or rejects HTML is not a browser."""
        for accept in (
            "*/*",
            "",
            "application/json",
            "text/*",
            "text/html;q=0",
            "text/html;level=1;Q=0",
            "text/html; q=0.00;a=b",
            "x;text/html",
        ):
            self.assertFalse(accepts_html(accept.encode()), accept)
        self.assertFalse(accepts_html(None))


class PageTests(SynchronousTestCase):
    def test_own_address(self) -> None:
        """The page shows every recipe, for the address that the browser used and its own upstream."""
        for host, upstream in (
            (b"10.0.0.7:5000", "docker.io"),
            (b"a_b", "quay.io"),
            (b"[::1]:5", "x:5000"),
        ):
            shown = unescape(page(host, upstream, is_secure=True))
            mirror = MirrorAddress(
                url=f"https://{host.decode()}", registries=(Registry(upstream),), default=upstream
            )
            for recipe in (make(mirror) for make in RECIPES.values()):
                self.assertIn(recipe.instructions, shown)
                for file in recipe.files:
                    self.assertIn(file.text, shown)
                    self.assertIn(file.path, shown)

    def test_plain(self) -> None:
        """Without TLS the recipes say http."""
        self.assertIn('"registry-mirrors": ["http://10.0.0.7:5000"]', unescape(page(b"10.0.0.7:5000")))

    def test_no_address(self) -> None:
        """An invalid Host is not shown."""
        for host in (b"", b"<script>", b"a'b", b"a&b", b"a:b", b"a" * 300, b"[<b>]", b"\xe4", b"a\n", b"-"):
            self.assertEqual(page(b"mirror.lan:5000"), page(host), host)

    def test_small(self) -> None:
        """Page and headers together are less than 4 KiB."""
        answer = welcome_page(b"registry-mirror.example.org:5000", "docker.io", is_secure=False)
        self.assertLess(len(answer.head(b"HTTP/1.1") + answer.body), 4096)

    def test_nothing_runs(self) -> None:
        """The content security policy allows the page's own style, and nothing else."""
        answer = welcome_page(b"mirror.lan", "docker.io", is_secure=False)
        (policy,) = re.findall(r"\r\nContent-Security-Policy: (.*)\r\n", answer.head(b"HTTP/1.1").decode())
        (style,) = re.findall(r"<style>(.*?)</style>", answer.body.decode(), re.DOTALL)
        known = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self.assertIn(f"default-src 'none'; style-src 'sha256-{known}'; ", policy)
        self.assertNotRegex(answer.body.decode(), r"<script|<img|<link| on\w+=|src=|href=|style=")


class RouteTests(APICase):
    def assert_page(self, got: Got) -> None:
        self.assertEqual((200, "text/html; charset=utf-8"), (got.status, got.headers["content-type"]))

    def test_root(self) -> None:
        """`/` is the page for a browser; a HEAD has its headers; the query does not matter."""
        got = self.get("/", BROWSER)
        self.assert_page(got)
        self.assertIn(b'["http://mirror"]', got.body.replace(b"&quot;", b'"'))
        self.assertIn(f"from <code>{HUB}</code>".encode(), got.body)
        self.assert_page(self.get("/?utm=x", BROWSER))
        headers = self.get("/", BROWSER, method="HEAD")
        self.assertEqual((str(len(got.body)), b""), (headers.headers["content-length"], headers.body))

    def test_tls(self) -> None:
        """The recipes say https to a browser that uses TLS."""
        alsoProvides(self.wire, ISSLTransport)
        self.assertIn(b"https://mirror&quot;", self.get("/", BROWSER).body)

    def test_absolute_form(self) -> None:
        """The host of an absolute target takes precedence over the header."""
        self.assertIn(
            b"<code>mirror.example:5000</code>", self.get("http://mirror.example:5000", BROWSER).body
        )

    def test_elsewhere(self) -> None:
        """No other path is HTML, nor is an error, nor `/` for other clients."""
        for path, status, code in (
            ("/v2/x", 404, "NAME_UNKNOWN"),
            ("/index.html", 404, "NAME_UNKNOWN"),
            ("/metrics", 404, "NAME_UNKNOWN"),
            ("/v2/library/x/manifests/latest", 404, "MANIFEST_UNKNOWN"),
            ("//", 400, "NAME_INVALID"),
        ):
            with self.subTest(path=path):
                self.assert_error(self.get(path, BROWSER), status, code)
        self.assert_error(self.get("/", "Accept: */*"), 404, "NAME_UNKNOWN")
        self.assert_error(self.get("/", BROWSER, method="POST"), 404, "NAME_UNKNOWN")
