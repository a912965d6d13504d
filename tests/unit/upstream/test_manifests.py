"""Tests of mirrord/upstream/manifests.py, over a network in memory."""

from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    Denied,
    ManifestUnknown,
    UpstreamCorrupt,
    UpstreamRefused,
)
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor
from tests.unit.upstream.cases import BODY, DIGEST, HEAD, MANIFEST, ClientTestCase
from tests.unit.upstream.scripted import (
    HOME,
    Reply,
)


class ManifestTests(ClientTestCase):
    def test_resolve(self) -> None:
        """HEAD resolves a tag, and accepts every type of manifest."""
        self.use(HEAD)
        self.assertEqual(Descriptor(OCI_MANIFEST, DIGEST, len(BODY)), self.result(self.resolve()))
        self.assertEqual([f"HEAD {HOME}/v2/library/app/manifests/latest"], self.agent.lines)
        self.assertIn(OCI_INDEX, self.agent.requests[0].header("Accept") or "")
        self.assertEqual("identity", self.agent.requests[0].header("Accept-Encoding"))

    def test_resolve_without_headers(self) -> None:
        """A HEAD without digest, type or length, or that is not allowed, resolves nothing."""
        for name in HEAD.headers:
            self.use(Reply(200, {each: value for each, value in HEAD.headers.items() if each != name}))
            self.assertIsNone(self.result(self.resolve()), name)
        for reply in (Reply(405), Reply(200, {**HEAD.headers, "Content-Type": "text/html"})):
            self.use(reply)
            self.assertIsNone(self.result(self.resolve()))

    def test_fetch(self) -> None:
        """GET by tag returns the manifest with its digest."""
        self.use(MANIFEST)
        manifest = self.result(self.fetch())
        self.assertEqual((DIGEST, OCI_MANIFEST, BODY), (manifest.digest, manifest.media_type, manifest.body))

    def test_fetch_without_headers(self) -> None:
        """A manifest without a digest header and of a vague type is identified by its bytes."""
        self.use(Reply(200, {"Content-Type": "text/plain"}, BODY, is_chunked=True))
        self.assertEqual(Descriptor(OCI_MANIFEST, DIGEST, len(BODY)), self.result(self.fetch()).descriptor)

    def test_wrong_bytes(self) -> None:
        """Bytes that match neither the digest requested nor the one in the header are corrupt."""
        self.use(Reply(200, {"Content-Type": OCI_MANIFEST}, BODY + b" "))
        self.failure(self.fetch(DIGEST), UpstreamCorrupt)
        self.use(Reply(200, MANIFEST.headers, BODY + b" "))
        self.failure(self.fetch(), UpstreamCorrupt)
        self.use(Reply(200, {**MANIFEST.headers, "Docker-Content-Digest": str(Digest.of(b""))}, BODY))
        self.failure(self.fetch(DIGEST), UpstreamCorrupt)

    def test_html(self) -> None:
        """HTML in place of a manifest is an upstream error, not a 404."""
        self.use(Reply(200, {"Content-Type": "text/html"}, b"<html>"))
        self.failure(self.fetch(), UpstreamRefused)

    def test_media_type_of_a_page(self) -> None:
        """A manifest sent as text/html has the media type that its body shows, or is an upstream error."""
        page = {"Content-Type": "text/html; charset=utf-7"}
        self.use(Reply(200, page, BODY))
        self.assertEqual(OCI_MANIFEST, self.result(self.fetch()).media_type)
        self.use(Reply(200, page, b'{"mediaType": "text/html", "layers": []}'))
        self.failure(self.fetch(), UpstreamRefused)

    def test_too_long(self) -> None:
        """A manifest of more than 4 MiB is rejected."""
        self.use(Reply(200, MANIFEST.headers, b" " * (4 * 1024 * 1024 + 1)))
        self.failure(self.fetch(), UpstreamRefused)

    def test_statuses(self) -> None:
        """404 is unknown, 403 is denied, 5xx is an upstream error with the status."""
        for status, kind in ((404, ManifestUnknown), (403, Denied), (503, UpstreamRefused)):
            self.use(Reply(status), Reply(status))
            self.failure(self.fetch(), kind)
            error = self.failure(self.resolve(), kind)
        self.assertEqual(503, error.upstream_status)

    def test_redirected(self) -> None:
        """A manifest may be redirected, and the target's response then counts as the registry's."""
        self.use(Reply(307, {"Location": "https://mirror.example/x"}), Reply(404))
        self.failure(self.fetch(), ManifestUnknown)
