"""Tests of mirrord/api/manifests.py."""

from mirrord.api.body_streams import CHUNK_BYTES
from mirrord.last_clients import LastRequest
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from tests.fakes.repositories import HUB
from tests.fakes.wire import head
from tests.unit.api.cases import APICase

BODY = b'{"schemaVersion": 2 }'
TYPE = "application/vnd.oci.image.index.v1+json"
DIGEST = str(Digest.of(BODY))
BY_TAG = "/v2/library/x/manifests/latest"
BY_DIGEST = f"/v2/library/x/manifests/{DIGEST}"


class ManifestTests(APICase):
    def setUp(self) -> None:
        super().setUp()
        self.repositories.add_manifest(BODY, "latest")

    def test_by_digest(self) -> None:
        """A manifest by digest is immutable."""
        got = self.get(BY_DIGEST)

        self.assertEqual((200, BODY), (got.status, got.body))
        self.assertEqual(TYPE, got.headers["content-type"])
        self.assertEqual(str(len(BODY)), got.headers["content-length"])
        self.assertEqual(DIGEST, got.headers["docker-content-digest"])
        self.assertEqual(f'"{DIGEST}"', got.headers["etag"])
        self.assertEqual("max-age=31536000, immutable", got.headers["cache-control"])
        self.assertEqual("mirrord; hit", got.headers["cache-status"])
        self.assertNotIn("age", got.headers)

    def test_by_tag(self) -> None:
        """A manifest by tag may be cached until its ttl, counted from the response of the upstream."""
        self.repositories.cache = CacheResult.hit(ttl_seconds=200, age_seconds=100)

        got = self.get(BY_TAG)

        self.assertEqual(DIGEST, got.headers["docker-content-digest"])
        self.assertEqual("max-age=300", got.headers["cache-control"])
        self.assertEqual("100", got.headers["age"])
        self.assertEqual("mirrord; hit; ttl=200", got.headers["cache-status"])

    def test_stale(self) -> None:
        """A stale tag is marked, and has to be revalidated."""
        self.repositories.cache = CacheResult.stale(503, age_seconds=4000)

        got = self.get(BY_TAG)

        self.assertEqual(200, got.status)
        self.assertEqual("no-cache", got.headers["cache-control"])
        self.assertEqual(
            "mirrord; fwd=stale; fwd-status=503; detail=stale-if-error", got.headers["cache-status"]
        )

    def test_head(self) -> None:
        """HEAD has the headers of GET, and fetches no manifest."""
        headers = self.get(BY_TAG).headers

        self.assertEqual(headers, self.get(BY_TAG, method="HEAD").headers)
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))
        self.assertEqual("head", self.repositories.requests[-1][0])

    def test_not_modified(self) -> None:
        """A client that has the manifest gets a 304, and nothing is pulled."""
        for method in ("GET", "HEAD"):
            got = self.get(BY_TAG, f'If-None-Match: "x", W/"{DIGEST}"', method=method)

            self.assertEqual((304, b""), (got.status, got.body))
            self.assertEqual(f'"{DIGEST}"', got.headers["etag"])
            self.assertEqual(DIGEST, got.headers["docker-content-digest"])
            self.assertNotIn("content-length", got.headers)
        requests = [(method, tag) for method, _, tag in self.repositories.requests]
        self.assertEqual([("head", Tag("latest"))] * 2, requests)

    def test_modified(self) -> None:
        """A client that has another manifest gets this one."""
        self.assertEqual(BODY, self.get(BY_TAG, 'If-None-Match: "sha256:0"').body)

    def test_accept(self) -> None:
        """The Accept header has no effect."""
        self.assertEqual(TYPE, self.get(BY_TAG, "Accept: text/html").headers["content-type"])

    def test_sha512(self) -> None:
        """The digest in the response is the requested one, whatever its algorithm."""
        digest = Digest.of(BODY, "sha512")
        self.repositories.manifests[str(digest)] = Manifest(digest, TYPE, BODY)

        got = self.get(f"/v2/library/x/manifests/{digest}")

        self.assertEqual(str(digest), got.headers["docker-content-digest"])

    def test_hostile_media_type(self) -> None:
        """A malformed media type of an upstream cannot add a header."""
        self.repositories.add_manifest(b"[]", "evil", media_type="a/b\r\nset-cookie: x=\u20ac")

        got = self.get("/v2/library/x/manifests/evil")

        self.assertEqual("a/bset-cookie: x=?", got.headers["content-type"])
        self.assertNotIn("set-cookie", got.headers)

    def test_unknown(self) -> None:
        """A manifest that the upstream does not have is unknown."""
        self.assert_error(self.get("/v2/library/x/manifests/none"), 404, "MANIFEST_UNKNOWN")

    def test_large(self) -> None:
        """A large manifest is sent as fast as the client reads it."""
        body = bytes(4 * CHUNK_BYTES - 5)
        self.repositories.add_manifest(body, "large")
        self.wire.taking = False

        self.client.send(head("/v2/library/x/manifests/large"))
        self.assertLess(len(self.wire.value()), 2 * CHUNK_BYTES)
        for _ in range(4):
            self.wire.producer.resumeProducing()

        self.assertEqual(body, self.client.got().body)
        self.assertEqual(len(body), self.sent)

    def test_last_clients(self) -> None:
        """The last client of a manifest is recorded for GET and HEAD, and not for errors."""
        key = RepositoryKey(HUB, RepositoryName("library/x"))
        for path, method in ((BY_TAG, "GET"), (BY_DIGEST, "HEAD"), ("/v2/library/x/manifests/none", "GET")):
            self.get(path, method=method)
        client = self.wire.getPeer().host
        for reference in (Tag("latest"), Digest.parse(DIGEST)):
            self.assertEqual(LastRequest(client, 0.0), self.last_clients.last(key, reference))
        self.assertIsNone(self.last_clients.last(key, Tag("none")))
