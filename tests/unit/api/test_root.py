"""Tests of mirrord/api/root.py."""

import errno
import gc
import json
from functools import partial

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource
from twisted.web.static import Data
from zope.interface.verify import verifyObject

from mirrord.access.authenticator import Authenticator
from mirrord.access.rules import Rules
from mirrord.api.root import APIResource
from mirrord.api.token import TokenResource
from mirrord.api.welcome import WelcomeResource
from mirrord.http.request import MirrorRequest
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Denied, UpstreamBusy, UpstreamRefused
from mirrord.oci.names import RepositoryKey, RepositoryName
from tests.fakes.logged import Logged
from tests.fakes.repositories import HUB, QUAY
from tests.fakes.wire import Client, head, read_answers
from tests.unit.api.cases import APICase, HostedAPICase

MANIFEST = "/v2/library/x/manifests/latest"


class PathTests(APICase):
    def test_ping(self) -> None:
        """`/v2/` shows that this is a registry, with and without the slash, for GET and HEAD."""
        for path in ("/v2/", "/v2", "/dockerhub/v2/", "/v2/?ns=quay.io"):
            got = self.get(path)
            self.assertEqual((200, b"{}"), (got.status, got.body))
            self.assertEqual("registry/2.0", got.headers["docker-distribution-api-version"])
        self.assertEqual(b"", self.get("/v2/", method="HEAD").body)

    def test_unknown(self) -> None:
        """An unknown path is a 404 in JSON, `/` and `/metrics` too."""
        for path in ("/", "/metrics", "/v2/x", "/v1/_ping", "/v2/x/uploads/y", "/v2/x/blobs/uploads/"):
            with self.subTest(path=path):
                self.assert_error(self.get(path), 404, "NAME_UNKNOWN")

    def test_pushes(self) -> None:
        """A method that would change a mirrored repository is a 405 with those that are allowed."""
        for method in ("PUT", "POST", "PATCH", "DELETE", "OPTIONS", "BREW"):
            for path in (MANIFEST, "/v2/x/blobs/uploads/", "/v2/"):
                with self.subTest(method=method, path=path):
                    got = self.get(path, method=method)
                    self.assert_error(got, 405, "UNSUPPORTED")
                    self.assertEqual("GET, HEAD", got.headers["allow"])

    def test_other_methods(self) -> None:
        """An unknown method is a 405 for every target, and nothing of the request is echoed."""
        for method, target in (
            ("OPTIONS", "*"),
            ("CONNECT", "registry.example:443"),
            ("TRACE", "/v2/"),
            ("BREW", "/nowhere"),
        ):
            with self.subTest(method=method):
                got = self.get(target, "X-Canary: 7f3a", method=method)
                self.assert_error(got, 405, "UNSUPPORTED")
                self.assertEqual("GET, HEAD", got.headers["allow"])
                self.assertNotIn(b"7f3a", self.wire.value())

    def test_absolute_form(self) -> None:
        """A target with scheme and host means its path."""
        for target in ("http://mirror.example:5000/v2/", "HTTPS://mirror.example/v2/?ns=quay.io"):
            self.assertEqual(200, self.get(target).status)
        self.assert_error(self.get("http://mirror.example"), 404, "NAME_UNKNOWN")

    def test_bad_targets(self) -> None:
        """A target that is not a valid path is a client error."""
        for path in (
            "*",
            "v2/",
            "/v2/%00/manifests/x",
            "/v2/../x",
            "/v2/X/manifests/y",
            "/v2/x/manifests/sha256:0",
        ):
            with self.subTest(path=path):
                self.assertIn(self.get(path).status, {400, 404})


class NamespaceTests(APICase):
    def setUp(self) -> None:
        super().setUp()
        self.repositories.add_manifest(b"{}", "latest")

    def requested_key(self) -> RepositoryKey:
        return self.repositories.requests[-1][1]  # type: ignore[no-any-return]

    def test_ns(self) -> None:
        """`ns` determines the upstream, and is echoed."""
        got = self.get("/v2/a/b/manifests/latest?ns=quay.io")

        self.assertEqual("quay.io", got.headers["oci-namespace"])
        self.assertEqual(RepositoryKey(QUAY, RepositoryName("a/b")), self.requested_key())
        self.assertEqual(1.0, self.counted("manifest", "hit", QUAY))

    def test_unknown_ns(self) -> None:
        """An unknown or repeated `ns` is an error without a request."""
        self.assert_error(self.get(f"{MANIFEST}?ns=evil.example"), 404, "NAME_UNKNOWN")
        self.assert_error(self.get("/v2/?ns=evil.example"), 404, "NAME_UNKNOWN")
        self.assert_error(self.get(f"{MANIFEST}?ns=quay.io&ns=quay.io"), 400, "NAME_INVALID")
        self.assertEqual([], self.repositories.requests)

    def test_default(self) -> None:
        """Without `ns` and prefix the listener's upstream is meant, and nothing is echoed."""
        got = self.get(MANIFEST)

        self.assertNotIn("oci-namespace", got.headers)
        self.assertEqual(RepositoryKey(HUB, RepositoryName("library/x")), self.requested_key())


class FailureTests(APICase):
    def test_definite(self) -> None:
        """An error of the upstream is passed on."""
        self.repositories.error = Denied("no")
        self.repositories.error.cache_status = "mirrord; fwd=uri-miss; fwd-status=403"

        got = self.get(MANIFEST)

        self.assert_error(got, 403, "DENIED")
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=403", got.headers["cache-status"])
        self.assertEqual(1.0, self.counted("manifest", "error"))

    def test_retry_after(self) -> None:
        """Retry-After is in whole seconds."""
        self.repositories.error = UpstreamBusy("limit", retry_after_seconds=4.1)

        got = self.get(MANIFEST)

        self.assert_error(got, 429, "TOOMANYREQUESTS")
        self.assertEqual("5", got.headers["retry-after"])

    def test_head(self) -> None:
        """The error of a HEAD has a length and no body."""
        self.repositories.error = UpstreamRefused("x")

        got = self.get(MANIFEST, method="HEAD")

        self.assertEqual(502, got.status)
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))
        self.assertNotEqual("0", got.headers["content-length"])

    def test_bug(self) -> None:
        """A bug is a 500 without details, which are logged once."""
        self.repositories.error = ZeroDivisionError("secret details")

        got = self.get(MANIFEST)

        self.assert_error(got, 500, "UNKNOWN")
        self.assertNotIn(b"secret", got.body)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertFalse(self.wire.disconnecting)

    def test_disk(self) -> None:
        """A failing disk is a 503, and one line in the log, without a traceback."""
        logged = Logged.during(self, "mirrord.observe.disk_errors")
        self.repositories.error = OSError(5, "Input/output error", "/var/cache/secret")

        got = self.get(MANIFEST)

        self.assert_error(got, 503, "UNAVAILABLE")
        self.assertNotIn(b"/var", got.body)
        self.assertEqual([f"request failed: {MANIFEST}: Input/output error"], logged.messages)
        self.assertEqual([], self.flushLoggedErrors(OSError))

    def test_full_disk(self) -> None:
        """A full disk is a 503, without a traceback in the log."""
        self.repositories.error = OSError(errno.ENOSPC, "No space left on device")

        self.assert_error(self.get(MANIFEST), 503, "UNAVAILABLE")

        self.assertEqual([], self.flushLoggedErrors(OSError))


class WaitingTests(APICase):
    def setUp(self) -> None:
        super().setUp()
        self.repositories.add_manifest(b"{}", "latest")
        self.repositories.pause = Deferred()

    def test_later(self) -> None:
        """A response that has to wait is sent later, and the pipelined one after it."""
        self.client.send(head(MANIFEST) + head("/v2/"))
        self.assertEqual(b"", self.wire.value())

        self.repositories.pause, pause = None, self.repositories.pause
        assert pause is not None
        pause.callback(None)

        self.assertEqual([200, 200], [got.status for got in read_answers(self.wire.value())])

    def test_later_failure(self) -> None:
        """A failure after a wait is an error like any other."""
        self.repositories.error = UpstreamRefused("x")
        self.client.send(head(MANIFEST))
        assert self.repositories.pause is not None
        self.repositories.pause.callback(None)

        self.assert_error(self.client.got(), 502, "UNAVAILABLE")

    def test_disconnect(self) -> None:
        """If the client disconnects, its request is cancelled, and nothing is counted or logged."""
        self.client.send(head(MANIFEST))

        self.client.leave()

        assert self.repositories.pause is not None
        self.assertTrue(self.repositories.pause.called)
        self.assertEqual(0.0, self.counted("manifest", "error"))
        self.assertEqual([], self.flushLoggedErrors())

    def test_failure_after_a_disconnect(self) -> None:
        """A failure after the client has disconnected is neither counted nor logged."""
        for error in (UpstreamRefused("x"), RuntimeError("x")):
            self.repositories.pause = Deferred(partial(Deferred.errback, fail=error))
            client = Client(self.site)
            client.send(head(MANIFEST))

            client.leave()
            gc.collect()

            self.assertEqual(b"", client.wire.value())
            self.assertEqual(0.0, self.counted("manifest", "error"))
            self.assertEqual([], self.flushLoggedErrors())

    def test_aborted(self) -> None:
        """Aborting the connections cancels the requests that wait."""
        self.client.send(head(MANIFEST))

        self.site.abort_connections()

        assert self.repositories.pause is not None
        self.assertTrue(self.repositories.pause.called)
        self.assertEqual((b"", True), (self.wire.value(), self.wire.disconnecting))
        self.assertEqual([], self.flushLoggedErrors())


class CatalogTests(HostedAPICase):
    def test_page(self) -> None:
        """The catalog is listed page by page; the link keeps the prefix and `ns`."""
        self.repositories.catalog = ["a", "b", "c"]

        got = self.get("/dockerhub/v2/_catalog?n=2&last=a")
        self.assertEqual({"repositories": ["b", "c"]}, json.loads(got.body))
        self.assertNotIn("link", got.headers)

        got = self.get("/dockerhub/v2/_catalog?n=1&ns=docker.io")
        self.assertEqual('</dockerhub/v2/_catalog?n=1&last=a&ns=docker.io>; rel="next"', got.headers["link"])
        self.assertEqual("docker.io", got.headers["oci-namespace"])

    def test_default_page(self) -> None:
        """The default page has a hundred names and a link, and few others are read."""
        self.repositories.catalog = [f"r{number:04}" for number in range(3000)]

        got = self.get("/v2/_catalog?last=r1")
        self.assertEqual(
            [f"r{number:04}" for number in range(1000, 1100)], json.loads(got.body)["repositories"]
        )
        self.assertEqual('</v2/_catalog?n=100&last=r1099>; rel="next"', got.headers["link"])
        self.assertLessEqual(len(self.repositories.requests), 150)

    def test_slices(self) -> None:
        """Thousands of unreadable repositories are skipped in slices."""
        self.repositories.catalog = [f"r{number:04}" for number in range(3000)]
        self.authenticator = Authenticator(
            rules=Rules(()), resolve_scope=self.repositories.router().resolve_scope
        )
        self.root = self.make_root()
        self.site.resource = self.root

        self.assertEqual({"repositories": []}, json.loads(self.get("/v2/_catalog").body))
        self.assertLessEqual(30, self.repositories.clock.yields)

    def test_hosted_and_mirrored(self) -> None:
        """A name that is both hosted and mirrored is listed once."""
        self.repositories.catalog = ["a", "team/app", "x"]
        self.hosted.push(RepositoryName("team/app"), b"x")

        self.assertEqual(["a", "team/app", "x"], json.loads(self.get("/v2/_catalog").body)["repositories"])
        self.assertEqual(["x"], json.loads(self.get("/v2/_catalog?last=team/app").body)["repositories"])

    def test_bad_page(self) -> None:
        """An invalid page size is an error."""
        self.assert_error(self.get("/v2/_catalog?n=-1"), 400, "PAGINATION_NUMBER_INVALID")


class MetricsTests(APICase):
    def test_outcomes(self) -> None:
        """Each response is counted by its cache status, with the bytes of its body."""
        self.repositories.add_manifest(b"{}", "latest")
        self.repositories.cache = CacheResult.collapsed()

        self.get(MANIFEST)
        self.get(MANIFEST, method="HEAD")

        self.assertEqual(2.0, self.counted("manifest", "collapsed"))
        self.assertEqual(2.0, self.sent)

    def test_unknown_blob(self) -> None:
        """A 404 is counted as an error of its kind."""
        self.get(f"/v2/x/blobs/{Digest.of(b'')}")

        self.assertEqual(1.0, self.counted("blob", "error"))


class TreeTests(APICase):
    """The root is a tree of Twisted resources."""

    def test_resources(self) -> None:
        """Every node of the tree provides IResource, and each path leads to the right one."""
        found = {}
        for path in ("/", "/v2", "/v2/", "/v2/token", "/v2/token/tags/list", "/quay/v2/", "/nowhere"):
            request = MirrorRequest(self.client.channel)
            request.postpath, request.prepath = path[1:].encode().split(b"/"), []
            found[path] = self.site.getResourceFor(request)
            verifyObject(IResource, found[path])
        verifyObject(IResource, self.root)
        api = found["/nowhere"]
        self.assertIsInstance(api, APIResource)
        self.assertIsInstance(found["/"], WelcomeResource)
        self.assertIsInstance(found["/v2/token"], TokenResource)
        self.assertEqual([api] * 3, [found[path] for path in ("/v2/", "/v2/token/tags/list", "/quay/v2/")])

    def test_more(self) -> None:
        """Another resource can be added, and is not found below a prefix."""
        self.root.putChild(b"more", Data(b"more", "text/plain"))
        got = self.get("/more")
        self.assertEqual((200, b"more", "text/plain"), (got.status, got.body, got.headers["content-type"]))
        self.assert_error(self.get("/quay/more"), 404, "NAME_UNKNOWN")

    def test_token_repository(self) -> None:
        """A repository may be called `token`: only `/v2/token` itself is the token service."""
        self.repositories.add_manifest(b"{}", "latest")
        self.assertEqual(200, self.get("/v2/token/manifests/latest").status)
        self.assert_error(self.get("/v2/token/"), 404, "NAME_UNKNOWN")
        self.assert_error(self.get("/quay/v2/token"), 404, "NAME_UNKNOWN")
