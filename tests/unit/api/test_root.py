"""Every request gets one answer, in the spec's words, whatever happens behind it."""

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
from tests.fakes.pulling import HUB, QUAY
from tests.fakes.wire import Client, head, read_answers
from tests.unit.api.scene import SceneCase

MANIFEST = "/v2/library/x/manifests/latest"


class PathTests(SceneCase):
    def test_ping(self) -> None:
        """`/v2/` says that this is a registry, with and without the slash, for GET and HEAD."""
        for path in ("/v2/", "/v2", "/dockerhub/v2/", "/v2/?ns=quay.io"):
            got = self.get(path)
            self.assertEqual((200, b"{}"), (got.status, got.body))
            self.assertEqual("registry/2.0", got.headers["docker-distribution-api-version"])
        self.assertEqual(b"", self.get("/v2/", method="HEAD").body)

    def test_unknown(self) -> None:
        """A path that is none of the API's is 404 in JSON, `/` and `/metrics` too."""
        for path in ("/", "/metrics", "/v2/x", "/v1/_ping", "/v2/x/uploads/y", "/v2/x/blobs/uploads/"):
            with self.subTest(path=path):
                self.assert_error(self.get(path), 404, "NAME_UNKNOWN")

    def test_pushes(self) -> None:
        """Whatever would change something is 405 with what is allowed, body or not."""
        for method in ("PUT", "POST", "PATCH", "DELETE", "OPTIONS", "BREW"):
            for path in (MANIFEST, "/v2/x/blobs/uploads/", "/v2/"):
                with self.subTest(method=method, path=path):
                    got = self.get(path, method=method)
                    self.assert_error(got, 405, "UNSUPPORTED")
                    self.assertEqual("GET, HEAD", got.headers["allow"])

    def test_other_methods(self) -> None:
        """A method that is not ours is 405 whatever its target is, and nothing of the request comes back."""
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
        """A target with scheme and host means its path, whatever host it is."""
        for target in ("http://mirror.example:5000/v2/", "HTTPS://mirror.example/v2/?ns=quay.io"):
            self.assertEqual(200, self.get(target).status)
        self.assert_error(self.get("http://mirror.example"), 404, "NAME_UNKNOWN")

    def test_bad_targets(self) -> None:
        """A target that is no path is the client's error."""
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


class UpstreamTests(SceneCase):
    def setUp(self) -> None:
        super().setUp()
        self.pulling.add_manifest(b"{}", "latest")

    def asked_source(self) -> RepositoryKey:
        return self.pulling.asked[-1][1]  # type: ignore[no-any-return]

    def test_ns(self) -> None:
        """`ns` decides, and is echoed."""
        got = self.get("/v2/a/b/manifests/latest?ns=quay.io")

        self.assertEqual("quay.io", got.headers["oci-namespace"])
        self.assertEqual(RepositoryKey(QUAY, RepositoryName("a/b")), self.asked_source())
        self.assertEqual(1.0, self.counted("manifest", "hit", QUAY))

    def test_unknown_ns(self) -> None:
        """An unknown or repeated `ns` is an error without asking anyone."""
        self.assert_error(self.get(f"{MANIFEST}?ns=evil.example"), 404, "NAME_UNKNOWN")
        self.assert_error(self.get("/v2/?ns=evil.example"), 404, "NAME_UNKNOWN")
        self.assert_error(self.get(f"{MANIFEST}?ns=quay.io&ns=quay.io"), 400, "NAME_INVALID")
        self.assertEqual([], self.pulling.asked)

    def test_default(self) -> None:
        """Without `ns` and prefix it is the listener's upstream, and nothing is echoed."""
        got = self.get(MANIFEST)

        self.assertNotIn("oci-namespace", got.headers)
        self.assertEqual(RepositoryKey(HUB, RepositoryName("library/x")), self.asked_source())


class FailureTests(SceneCase):
    def test_definite(self) -> None:
        """A refusal of the upstream's is told as it is."""
        self.pulling.error = Denied("no")
        self.pulling.error.cache_status = "mirrord; fwd=uri-miss; fwd-status=403"

        got = self.get(MANIFEST)

        self.assert_error(got, 403, "DENIED")
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=403", got.headers["cache-status"])
        self.assertEqual(1.0, self.counted("manifest", "error"))

    def test_retry_after(self) -> None:
        """How long to wait is told in whole seconds."""
        self.pulling.error = UpstreamBusy("limit", retry_after_seconds=4.1)

        got = self.get(MANIFEST)

        self.assert_error(got, 429, "TOOMANYREQUESTS")
        self.assertEqual("5", got.headers["retry-after"])

    def test_head(self) -> None:
        """The error of a HEAD has a length and no body."""
        self.pulling.error = UpstreamRefused("x")

        got = self.get(MANIFEST, method="HEAD")

        self.assertEqual(502, got.status)
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))
        self.assertNotEqual("0", got.headers["content-length"])

    def test_bug(self) -> None:
        """What nobody expected is a 500 that tells nothing of it; the log tells all, once."""
        self.pulling.error = ZeroDivisionError("the secret of our inside")

        got = self.get(MANIFEST)

        self.assert_error(got, 500, "UNKNOWN")
        self.assertNotIn(b"secret", got.body)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertFalse(self.wire.disconnecting)

    def test_disk(self) -> None:
        """A failing disk is a 503."""
        self.pulling.error = OSError(5, "Input/output error", "/var/cache/secret")

        got = self.get(MANIFEST)

        self.assert_error(got, 503, "UNAVAILABLE")
        self.assertNotIn(b"/var", got.body)
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_full_disk(self) -> None:
        """A full disk is a 503 and no traceback in the log."""
        self.pulling.error = OSError(errno.ENOSPC, "No space left on device")

        self.assert_error(self.get(MANIFEST), 503, "UNAVAILABLE")

        self.assertEqual([], self.flushLoggedErrors(OSError))


class WaitingTests(SceneCase):
    def setUp(self) -> None:
        super().setUp()
        self.pulling.add_manifest(b"{}", "latest")
        self.pulling.pause = Deferred()

    def test_later(self) -> None:
        """An answer that has to wait comes when it can, and the pipelined one after it."""
        self.client.send(head(MANIFEST) + head("/v2/"))
        self.assertEqual(b"", self.wire.value())

        self.pulling.pause, pause = None, self.pulling.pause
        assert pause is not None
        pause.callback(None)

        self.assertEqual([200, 200], [got.status for got in read_answers(self.wire.value())])

    def test_fails_later(self) -> None:
        """A failure after a wait is told like any other."""
        self.pulling.error = UpstreamRefused("x")
        self.client.send(head(MANIFEST))
        assert self.pulling.pause is not None
        self.pulling.pause.callback(None)

        self.assert_error(self.client.got(), 502, "UNAVAILABLE")

    def test_client_leaves(self) -> None:
        """When the client leaves, its question is cancelled, and nothing is counted or logged."""
        self.client.send(head(MANIFEST))

        self.client.leave()

        assert self.pulling.pause is not None
        self.assertTrue(self.pulling.pause.called)
        self.assertEqual(0.0, self.counted("manifest", "error"))
        self.assertEqual([], self.flushLoggedErrors())

    def test_fails_for_nobody(self) -> None:
        """A failure that comes when the client has left is neither told, counted nor logged."""
        for error in (UpstreamRefused("x"), RuntimeError("x")):
            self.pulling.pause = Deferred(partial(Deferred.errback, fail=error))
            client = Client(self.site)
            client.send(head(MANIFEST))

            client.leave()
            gc.collect()

            self.assertEqual(b"", client.wire.value())
            self.assertEqual(0.0, self.counted("manifest", "error"))
            self.assertEqual([], self.flushLoggedErrors())

    def test_broken_off(self) -> None:
        """A question that the drain has waited for long enough is cancelled, and its client let go."""
        self.client.send(head(MANIFEST))

        self.site.abort_connections()

        assert self.pulling.pause is not None
        self.assertTrue(self.pulling.pause.called)
        self.assertEqual((b"", True), (self.wire.value(), self.wire.disconnecting))
        self.assertEqual([], self.flushLoggedErrors())


class CatalogTests(SceneCase):
    def test_page(self) -> None:
        """What is held is listed page by page; the link keeps what named the upstream."""
        self.pulling.repositories = ["a", "b", "c"]

        got = self.get("/dockerhub/v2/_catalog?n=2&last=a")
        self.assertEqual({"repositories": ["b", "c"]}, json.loads(got.body))
        self.assertNotIn("link", got.headers)

        got = self.get("/dockerhub/v2/_catalog?n=1&ns=docker.io")
        self.assertEqual('</dockerhub/v2/_catalog?n=1&last=a&ns=docker.io>; rel="next"', got.headers["link"])
        self.assertEqual("docker.io", got.headers["oci-namespace"])

    def test_default_page(self) -> None:
        """Whoever asks for no page of thousands gets a hundred and a link, and no others are looked at."""
        self.pulling.repositories = [f"r{number:04}" for number in range(3000)]

        got = self.get("/v2/_catalog?last=r1")
        self.assertEqual(
            [f"r{number:04}" for number in range(1000, 1100)], json.loads(got.body)["repositories"]
        )
        self.assertEqual('</v2/_catalog?n=100&last=r1099>; rel="next"', got.headers["link"])
        self.assertLessEqual(len(self.pulling.asked), 150)

    def test_turns(self) -> None:
        """While somebody who may read nothing has thousands looked through, others have turns."""
        self.pulling.repositories = [f"r{number:04}" for number in range(3000)]
        self.gate = Authenticator(rules=Rules(()), resolve_scope=self.pulling.router().resolve_scope)
        self.root = self.make_root()
        self.site.resource = self.root

        self.assertEqual({"repositories": []}, json.loads(self.get("/v2/_catalog").body))
        self.assertLessEqual(30, self.pulling.hosting.clock.yields)

    def test_hosted_first(self) -> None:
        """Of a hosted and a mirrored repository of one name one is told; the page goes on behind it."""
        self.pulling.repositories = ["a", "team/app", "x"]
        self.pulling.hosting.index.hold(RepositoryName("team/app"), Digest.of(b"x"), b"x")

        self.assertEqual(["a", "team/app", "x"], json.loads(self.get("/v2/_catalog").body)["repositories"])
        self.assertEqual(["x"], json.loads(self.get("/v2/_catalog?last=team/app").body)["repositories"])

    def test_bad_page(self) -> None:
        """A page size that is no number is an error."""
        self.assert_error(self.get("/v2/_catalog?n=-1"), 400, "PAGINATION_NUMBER_INVALID")


class CountingTests(SceneCase):
    def test_ways(self) -> None:
        """Each answer is counted by how it came about, and its bytes; those of a HEAD are none."""
        self.pulling.add_manifest(b"{}", "latest")
        self.pulling.outcome = CacheResult.collapsed()

        self.get(MANIFEST)
        self.get(MANIFEST, method="HEAD")

        self.assertEqual(2.0, self.counted("manifest", "collapsed"))
        self.assertEqual(2.0, self.sent)

    def test_unknown_blob(self) -> None:
        """A 404 is counted as an error of its kind."""
        self.get(f"/v2/x/blobs/{Digest.of(b'')}")

        self.assertEqual(1.0, self.counted("blob", "error"))


class TreeTests(SceneCase):
    """The root is a tree of resources."""

    def test_resources(self) -> None:
        """Every resource of the tree is one, and each path leads to the right one."""
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
        """Another resource may be added, but none is looked up below a prefix."""
        self.root.putChild(b"more", Data(b"more", "text/plain"))
        got = self.get("/more")
        self.assertEqual((200, b"more", "text/plain"), (got.status, got.body, got.headers["content-type"]))
        self.assert_error(self.get("/quay/more"), 404, "NAME_UNKNOWN")

    def test_token_repository(self) -> None:
        """A repository may be called `token`: only `/v2/token` itself is the token service's."""
        self.pulling.add_manifest(b"{}", "latest")
        self.assertEqual(200, self.get("/v2/token/manifests/latest").status)
        self.assert_error(self.get("/v2/token/"), 404, "NAME_UNKNOWN")
        self.assert_error(self.get("/quay/v2/token"), 404, "NAME_UNKNOWN")
