"""Tests of mirrord/api/uploads.py, blobs.py and root.py, for clients that push."""

from ipaddress import ip_network

from mirrord.access.authenticator import Authenticator
from mirrord.access.rules import Rules
from mirrord.config.access import AccessConfig, Principal, RuleConfig
from mirrord.http.forwarded import TrustedProxies
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName
from mirrord.store.upload_counts import UploadLimits
from tests.fakes.configurations import configuration
from tests.fakes.logged import Logged
from tests.fakes.wire import Client, Got, head, read_answers
from tests.unit.api.cases import HostedAPICase

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)
UPLOADS = "/v2/team/app/blobs/uploads/"
APP = RepositoryName("team/app")


class PushCase(HostedAPICase):
    """A client that may push to `team/app`."""

    def setUp(self) -> None:
        super().setUp()
        self.allow("network:192.168.1.0/24")

    def allow(self, *pushers: str) -> None:
        """Allow these principals to push to `team/app` and everyone to pull it; anything else is denied."""
        principals = tuple(map(Principal.parse, pushers))
        rule = RuleConfig(
            repositories=("team/app",), pull=(Principal("anonymous"),), push=principals, delete=principals
        )
        self.authenticator = Authenticator(
            rules=Rules.of(configuration(AccessConfig(rules=(rule,)))),
            resolve_scope=self.repositories.router().resolve_scope,
        )
        self.root = self.make_root()
        self.site.resource = self.root

    def send(self, method: str, path: str, body: bytes = b"", *headers: str) -> Got:
        client = Client(self.site)
        client.send(head(path, f"Content-Length: {len(body)}", *headers, method=method) + body)
        return read_answers(client.wire.value(), method)[0]


class UploadTests(PushCase):
    def test_chunks(self) -> None:
        """A push in two chunks gets its location and progress at each step, and then that of the blob."""
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
        """A chunk out of order is a 416 with the location and the progress."""
        location = self.send("POST", UPLOADS).headers["location"]
        got = self.send("PATCH", location, CONTENT, "Content-Range: 5-14")

        self.assert_error(got, 416, "RANGE_INVALID")
        self.assertEqual((location, "0-0"), (got.headers["location"], got.headers["range"]))

    def test_too_many(self) -> None:
        """A client with too many unfinished uploads gets a 429 that names the limit, also in one request."""
        self.store.opened.uploads.counts.limits = UploadLimits(of_client=1)
        location = self.send("POST", UPLOADS).headers["location"]
        for path in (UPLOADS, f"{UPLOADS}?digest={DIGEST}"):
            got = self.send("POST", path, CONTENT)
            self.assert_error(got, 429, "TOOMANYREQUESTS")
            self.assertIn(b"this client has 1 unfinished uploads", got.body)
            self.assertEqual("60", got.headers["retry-after"])

        self.assertEqual(204, self.send("DELETE", location).status)

        self.assertEqual(202, self.send("POST", UPLOADS).status)

    def test_client(self) -> None:
        """Uploads are counted by user, and by network where there is no user."""
        self.store.opened.uploads.counts.limits = UploadLimits(of_client=1)
        self.site.proxies = TrustedProxies((ip_network("192.168.1.0/24"),))
        self.allow("network:192.168.1.0/24", "network:2001:db8::/32")
        clients = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")

        got = [self.send("POST", UPLOADS, b"", f"X-Forwarded-For: {client}").status for client in clients]

        self.assertEqual([202, 429, 202], got)

    def test_methods(self) -> None:
        """A method that a path does not support is a 405 with those that it does."""
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

    def test_disconnect(self) -> None:
        """A commit completes though its client disconnects."""
        location = self.send("POST", UPLOADS).headers["location"]
        self.send("PATCH", location, CONTENT)
        self.store.threads.hold()
        client = Client(self.site)
        client.send(head(f"{location}?digest={DIGEST}", "Content-Length: 0", method="PUT"))
        client.leave()
        self.assertFalse(self.store.has(DIGEST))
        self.store.threads.release()

        self.assertEqual(CONTENT, self.store.blob(DIGEST))
        self.assertIsNotNone(self.store.opened.hosted.link(APP, DIGEST))

    def test_disk_failure(self) -> None:
        """A disk failure is a 503, and logged."""
        location = self.send("POST", UPLOADS).headers["location"]
        self.store.threads.failures["append"] = OSError("no space left")
        logged = Logged.during(self, "mirrord.observe.disk_errors")
        self.assert_error(self.send("PATCH", location, CONTENT), 503, "UNAVAILABLE")

        self.assertEqual([f"request failed: {location}: no space left"], logged.messages)


class PermissionTests(PushCase):
    def test_before_the_body(self) -> None:
        """A push without permission is rejected by its head; the body is neither requested nor read."""
        self.allow("network:10.0.0.0/8")
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
        self.assertEqual(0, self.store.opened.uploads.total_entries)

    def test_not_confirmed(self) -> None:
        """A blob of an unreadable repository gets the same response as one that does not exist."""
        self.hosted.push(RepositoryName("team/secret"), CONTENT)
        for digest in (DIGEST, Digest.of(b"nowhere")):
            got = self.get(f"/v2/team/secret/blobs/{digest}", method="HEAD")
            self.assertEqual(403, got.status)
            for origin in ("&from=team/secret", ""):
                got = self.send("POST", f"{UPLOADS}?mount={digest}{origin}")
                self.assertEqual(202, got.status)

    def test_mount(self) -> None:
        """A readable blob is mounted without an upload."""
        self.allow("anonymous")
        self.hosted.push(APP, CONTENT)

        self.assertEqual(201, self.send("POST", f"{UPLOADS}?mount={DIGEST}").status)

    def test_delete(self) -> None:
        """Deletion needs a permission of its own, and is a 404 for unknown content."""
        self.hosted.push(APP, CONTENT)
        blob = f"/v2/team/app/blobs/{DIGEST}"
        self.allow("network:10.0.0.0/8")
        self.assertEqual(403, self.send("DELETE", blob).status)
        self.allow("network:192.168.1.0/24")
        self.assertEqual([202, 404], [self.send("DELETE", blob).status for _ in range(2)])

    def test_catalog(self) -> None:
        """The catalog has the repositories that the client may read."""
        for name in ("team/app", "team/secret"):
            self.hosted.push(RepositoryName(name), CONTENT)
        self.assertEqual(b'{"repositories":["team/app"]}', self.get("/v2/_catalog").body)


class RoutingTests(PushCase):
    def test_hosted(self) -> None:
        """A hosted name is not requested from an upstream; with `ns` or a prefix it is not hosted."""
        self.assert_error(self.get("/v2/team/app/manifests/v1"), 404, "MANIFEST_UNKNOWN")
        self.assertEqual([], self.repositories.requests)
        for path in ("/v2/team/app/tags/list?ns=quay.io", "/quay/v2/team/app/tags/list"):
            self.assertEqual(403, self.get(path).status)
            self.assert_error(self.send("PUT", path), 405, "UNSUPPORTED")

    def test_own_host(self) -> None:
        """`ns` may be the mirror's own host, as that of a containerd without a hosts.toml."""
        self.assertEqual(202, self.send("POST", f"{UPLOADS}?ns=mirror").status)
        self.assert_error(self.send("POST", f"{UPLOADS}?ns=other.example"), 404, "NAME_UNKNOWN")
