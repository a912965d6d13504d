"""Manifests leave verbatim, with the headers that clients decide by."""

from mirrord.api.body_streams import CHUNK_BYTES
from mirrord.last_clients import LastRequest
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from tests.fakes.pulling import HUB
from tests.fakes.wire import head
from tests.unit.api.scene import SceneCase

BODY = b'{"schemaVersion": 2 }'
TYPE = "application/vnd.oci.image.index.v1+json"
DIGEST = str(Digest.of(BODY))
BY_TAG = "/v2/library/x/manifests/latest"
BY_DIGEST = f"/v2/library/x/manifests/{DIGEST}"


class ManifestTests(SceneCase):
    def setUp(self) -> None:
        super().setUp()
        self.pulling.add_manifest(BODY, "latest")

    def test_by_digest(self) -> None:
        """By digest a manifest never changes."""
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
        """By tag it may be kept until its ttl ends, counted from when the upstream was asked."""
        self.pulling.outcome = CacheResult.hit(ttl_seconds=200, age_seconds=100)

        got = self.get(BY_TAG)

        self.assertEqual(DIGEST, got.headers["docker-content-digest"])
        self.assertEqual("max-age=300", got.headers["cache-control"])
        self.assertEqual("100", got.headers["age"])
        self.assertEqual("mirrord; hit; ttl=200", got.headers["cache-status"])

    def test_stale(self) -> None:
        """A stale tag says so, and is to be asked for again."""
        self.pulling.outcome = CacheResult.stale(503, age_seconds=4000)

        got = self.get(BY_TAG)

        self.assertEqual(200, got.status)
        self.assertEqual("no-cache", got.headers["cache-control"])
        self.assertEqual(
            "mirrord; fwd=stale; fwd-status=503; detail=stale-if-error", got.headers["cache-status"]
        )

    def test_head(self) -> None:
        """HEAD has the headers of GET, and only asks what it is."""
        headers = self.get(BY_TAG).headers

        self.assertEqual(headers, self.get(BY_TAG, method="HEAD").headers)
        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))
        self.assertEqual("head", self.pulling.asked[-1][0])

    def test_not_modified(self) -> None:
        """Who holds it is told so, without a body and without a pull of it."""
        for method in ("GET", "HEAD"):
            got = self.get(BY_TAG, f'If-None-Match: "x", W/"{DIGEST}"', method=method)

            self.assertEqual((304, b""), (got.status, got.body))
            self.assertEqual(f'"{DIGEST}"', got.headers["etag"])
            self.assertEqual(DIGEST, got.headers["docker-content-digest"])
            self.assertNotIn("content-length", got.headers)
        self.assertEqual([("head", Tag("latest"))] * 2, [(how, tag) for how, _, tag in self.pulling.asked])

    def test_modified(self) -> None:
        """Who holds something else is sent what it is."""
        self.assertEqual(BODY, self.get(BY_TAG, 'If-None-Match: "sha256:0"').body)

    def test_accept(self) -> None:
        """What a client says it accepts changes nothing."""
        self.assertEqual(TYPE, self.get(BY_TAG, "Accept: text/html").headers["content-type"])

    def test_sha512(self) -> None:
        """The digest told is the one that was asked for, of whatever algorithm."""
        digest = Digest.of(BODY, "sha512")
        self.pulling.manifests[str(digest)] = type(self.pulling.manifests["latest"])(digest, TYPE, BODY)

        got = self.get(f"/v2/library/x/manifests/{digest}")

        self.assertEqual(str(digest), got.headers["docker-content-digest"])

    def test_hostile_media_type(self) -> None:
        """A media type that an upstream made up cannot add a header."""
        self.pulling.add_manifest(b"[]", "evil", media_type="a/b\r\nset-cookie: x=\u20ac")

        got = self.get("/v2/library/x/manifests/evil")

        self.assertEqual("a/bset-cookie: x=?", got.headers["content-type"])
        self.assertNotIn("set-cookie", got.headers)

    def test_unknown(self) -> None:
        """A manifest that the upstream does not have is unknown."""
        self.assert_error(self.get("/v2/library/x/manifests/none"), 404, "MANIFEST_UNKNOWN")

    def test_large(self) -> None:
        """A manifest of megabytes is handed over as the client takes it."""
        body = bytes(4 * CHUNK_BYTES - 5)
        self.pulling.add_manifest(body, "large")
        self.wire.taking = False

        self.client.send(head("/v2/library/x/manifests/large"))
        self.assertLess(len(self.wire.value()), 2 * CHUNK_BYTES)
        for _ in range(4):
            self.wire.producer.resumeProducing()

        self.assertEqual(body, self.client.got().body)
        self.assertEqual(len(body), self.sent)

    def test_visits(self) -> None:
        """Who was given a manifest, or told what it is, is remembered; who was told no is not."""
        source = RepositoryKey(HUB, RepositoryName("library/x"))
        for path, method in ((BY_TAG, "GET"), (BY_DIGEST, "HEAD"), ("/v2/library/x/manifests/none", "GET")):
            self.get(path, method=method)
        client = self.wire.getPeer().host
        for reference in (Tag("latest"), Digest.parse(DIGEST)):
            self.assertEqual(LastRequest(client, 0.0), self.visits.last(source, reference))
        self.assertIsNone(self.visits.last(source, Tag("none")))
