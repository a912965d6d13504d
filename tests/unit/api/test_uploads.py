"""Pushing over HTTP: who may, what is told, and in which order that is decided."""

from twisted.internet.defer import Deferred

from mirrord.access.authenticator import Authenticator
from mirrord.access.rules import Rules
from mirrord.config.access import AccessConfig, Principal, RuleConfig
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName
from tests.fakes.wire import Client, Got, head, read_answers
from tests.unit.api.scene import SceneCase

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)
UPLOADS = "/v2/team/app/blobs/uploads/"
APP = RepositoryName("team/app")


class PushCase(SceneCase):
    """A client on the daemon's own host, which may push there."""

    def setUp(self) -> None:
        super().setUp()
        self.hosting = self.pulling.hosting
        self.let("network:192.168.1.0/24")

    def let(self, *pushers: str) -> None:
        """Let these parties push; everybody may pull `team/app`, and nobody anything else."""
        parties = tuple(map(Principal.parse, pushers))
        rule = RuleConfig(
            repositories=("team/app",), pull=(Principal("anonymous"),), push=parties, delete=parties
        )
        self.gate = Authenticator(
            rules=Rules.of(AccessConfig(rules=(rule,))),
            resolve_scope=self.pulling.router().resolve_scope,
        )
        self.root = self.make_root()
        self.site.resource = self.root

    def send(self, method: str, path: str, body: bytes = b"", *headers: str) -> Got:
        client = Client(self.site)
        client.send(head(path, f"Content-Length: {len(body)}", *headers, method=method) + body)
        return read_answers(client.wire.value(), method)[0]


class UploadTests(PushCase):
    def test_chunks(self) -> None:
        """A push in two chunks is told where it is at each step, and then where its blob is."""
        begun = self.send("POST", UPLOADS)
        location = begun.headers["location"]
        self.assertEqual((202, "0-0"), (begun.status, begun.headers["range"]))
        self.assertEqual(f"{UPLOADS}{begun.headers['docker-upload-uuid']}", location)
        got = self.send("PATCH", location, CONTENT[:4], "Content-Range: 0-3")
        self.assertEqual((202, "0-3", location), (got.status, got.headers["range"], got.headers["location"]))
        got = self.send("GET", location)
        self.assertEqual((204, "0-3"), (got.status, got.headers["range"]))
        self.assertNotIn("content-length", got.headers)
        got = self.send("PUT", f"{location}?digest={DIGEST}", CONTENT[4:])
        self.assertEqual((201, f"/v2/team/app/blobs/{DIGEST}"), (got.status, got.headers["location"]))

        got = self.get(got.headers["location"])
        self.assertEqual((200, CONTENT, "mirrord; hit"), (got.status, got.body, got.headers["cache-status"]))

    def test_out_of_order(self) -> None:
        """A chunk that does not follow is 416, with the place from which to go on."""
        location = self.send("POST", UPLOADS).headers["location"]
        got = self.send("PATCH", location, CONTENT, "Content-Range: 5-14")

        self.assert_error(got, 416, "RANGE_INVALID")
        self.assertEqual((location, "0-0"), (got.headers["location"], got.headers["range"]))

    def test_methods(self) -> None:
        """What a path does not take is 405, with what it does."""
        location = self.send("POST", UPLOADS).headers["location"]
        for method, path, allowed in (
            ("GET", UPLOADS, "POST"),
            ("POST", location, "PATCH, PUT, GET, HEAD, DELETE"),
            ("PUT", f"/v2/team/app/blobs/{DIGEST}", "GET, HEAD, DELETE"),
            ("PATCH", "/v2/team/app/manifests/v1", "GET, HEAD, PUT, DELETE"),
            ("PUT", "/v2/team/app/tags/list", "GET, HEAD"),
        ):
            with self.subTest(method=method, path=path):
                got = self.send(method, path)
                self.assert_error(got, 405, "UNSUPPORTED")
                self.assertEqual(allowed, got.headers["allow"])

    def test_leaving(self) -> None:
        """A client that leaves while its blob is committed does not undo that."""
        location = self.send("POST", UPLOADS).headers["location"]
        self.send("PATCH", location, CONTENT)
        self.hosting.uploads.slow_disk = Deferred()
        client = Client(self.site)
        client.send(head(f"{location}?digest={DIGEST}", "Content-Length: 0", method="PUT"))
        client.leave()
        self.hosting.uploads.slow_disk.callback(None)

        self.assertIn(DIGEST, self.hosting.index.blobs.committed)

    def test_refusing_disk(self) -> None:
        """A disk that refuses is 503 in the spec's words, and the log says why."""
        location = self.send("POST", UPLOADS).headers["location"]
        self.hosting.uploads.refusals = [OSError("no space left")]
        self.assert_error(self.send("PATCH", location, CONTENT), 503, "UNAVAILABLE")

        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class PermissionTests(PushCase):
    def test_before_the_body(self) -> None:
        """Whoever may not push is refused by the head alone: nothing of the body is read or asked for."""
        self.let("network:10.0.0.0/8")
        for method, path in (
            ("POST", f"{UPLOADS}?digest={DIGEST}"),
            ("PATCH", f"{UPLOADS}session-1"),
            ("PUT", "/v2/team/app/manifests/v1"),
        ):
            client = Client(self.site)
            client.send(head(path, "Content-Length: 10", "Expect: 100-continue", method=method))
            (got,) = read_answers(client.wire.value(), method)
            self.assert_error(got, 403, "DENIED")
            self.assertEqual("close", got.headers["connection"])
        self.assertEqual({}, self.hosting.uploads.sessions)

    def test_not_confirmed(self) -> None:
        """A blob of a repository that one may not read is answered like one that is nowhere."""
        self.hosting.index.hold(RepositoryName("team/secret"), DIGEST, CONTENT)
        for digest in (DIGEST, Digest.of(b"nowhere")):
            got = self.get(f"/v2/team/secret/blobs/{digest}", method="HEAD")
            self.assertEqual(403, got.status)
            for origin in ("&from=team/secret", ""):
                got = self.send("POST", f"{UPLOADS}?mount={digest}{origin}")
                self.assertEqual(202, got.status)

    def test_mount(self) -> None:
        """What one may read is mounted without a byte."""
        self.let("anonymous")
        self.hosting.index.hold(APP, DIGEST, CONTENT)

        self.assertEqual(201, self.send("POST", f"{UPLOADS}?mount={DIGEST}").status)

    def test_delete(self) -> None:
        """A delete needs its own permission, and is 404 for what is not there."""
        self.hosting.index.hold(APP, DIGEST, CONTENT)
        blob = f"/v2/team/app/blobs/{DIGEST}"
        self.let("network:10.0.0.0/8")
        self.assertEqual(403, self.send("DELETE", blob).status)
        self.let("network:192.168.1.0/24")
        self.assertEqual([202, 404], [self.send("DELETE", blob).status for _ in range(2)])

    def test_catalog(self) -> None:
        """The list of repositories has those that one may read, hosted beside mirrored ones."""
        for name in ("team/app", "team/secret"):
            self.hosting.index.hold(RepositoryName(name), DIGEST, CONTENT)
        self.assertEqual(b'{"repositories":["team/app"]}', self.get("/v2/_catalog").body)


class RoutingTests(PushCase):
    def test_hosted(self) -> None:
        """A hosted name is never asked of an upstream; with `ns` or a prefix it is never ours."""
        self.assert_error(self.get("/v2/team/app/manifests/v1"), 404, "MANIFEST_UNKNOWN")
        self.assertEqual([], self.pulling.asked)
        for path in ("/v2/team/app/tags/list?ns=quay.io", "/quay/v2/team/app/tags/list"):
            self.assertEqual(403, self.get(path).status)
            self.assert_error(self.send("PUT", path), 405, "UNSUPPORTED")

    def test_our_own_name(self) -> None:
        """`ns` may say our own host, as containerd's does when it was told where we are."""
        self.assertEqual(202, self.send("POST", f"{UPLOADS}?ns=mirror").status)
        self.assert_error(self.send("POST", f"{UPLOADS}?ns=other.example"), 404, "NAME_UNKNOWN")
