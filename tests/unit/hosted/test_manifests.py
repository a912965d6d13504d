"""Tests of mirrord/hosted/manifests.py and pushed_manifest.py."""

import json
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.ports import HostedLinks
from mirrord.hosted.pushed_manifest import PushedManifest
from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    ContentTooLarge,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    Unavailable,
)
from mirrord.oci.manifests import DOCKER_MANIFEST, MAX_MANIFEST_BYTES, MAX_REFERENCES, OCI_INDEX, OCI_MANIFEST
from mirrord.oci.names import Reference, Tag
from tests.fakes.repositories import FakeRequestBody
from tests.unit.hosted.cases import APP, CountingLinks, HostedCase

CONFIG = {"mediaType": "application/x-config", "digest": str(Digest.of(b"{}")), "size": 2}
IMAGE: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": []}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
SUBJECT = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"subject")), "size": 7}


def encoded(document: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(document | more).encode()


@attrs.frozen(eq=False)
class DeletingSpace:
    """Deletes a repository while it makes room."""

    links: HostedLinks

    async def make_room_for_push(self, size: int) -> bool:
        return await self.links.delete_repository(APP)


class ManifestCase(HostedCase):
    def setUp(self) -> None:
        super().setUp()
        self.push_blob(b"{}")

    def push(
        self,
        body: bytes,
        reference: Reference | None = None,
        *tags: str,
        media_type: str | None = OCI_MANIFEST,
    ) -> "Deferred[PushedManifest]":
        pushing = self.services.pusher.push(
            APP,
            reference or Tag("v1"),
            tags=map(Tag, tags),
            content_type=media_type,
            body=FakeRequestBody.of(body),
        )
        return Deferred.fromCoroutine(pushing)

    def assert_rejected(
        self, error: type[Exception], body: bytes, media_type: str | None = OCI_MANIFEST
    ) -> None:
        self.failureResultOf(self.push(body, media_type=media_type), error)
        self.assertIsNone(self.links.tag(APP, Tag("v1")))


class ManifestPusherTests(ManifestCase):
    def test_lost_content(self) -> None:
        """A manifest that references a blob whose file is gone is rejected, until that is pushed again."""
        self.store.layout.content(ContentKind.BLOB, Digest.of(b"{}"), is_hosted=True).unlink()
        self.assert_rejected(ManifestBlobUnknown, encoded(IMAGE))
        self.push_blob(b"{}")
        self.successResultOf(self.push(encoded(IMAGE)))

    def test_verbatim(self) -> None:
        """A manifest is stored verbatim, under its sha256 digest and its tag."""
        body = b"  " + encoded(IMAGE, unknown={"a": None})
        manifest = self.successResultOf(self.push(body)).manifest

        self.assertEqual((body, Digest.of(body)), (manifest.body, manifest.digest))
        self.assertEqual(manifest.descriptor, self.links.tag(APP, Tag("v1")))
        self.assertEqual(manifest, self.result(self.store.opened.manifests.read(manifest.digest)))

    def test_by_digest(self) -> None:
        """A manifest pushed by digest is stored under that digest, whatever its algorithm, with the tags."""
        body = encoded(IMAGE)
        digest = Digest.of(body, "sha512")
        self.successResultOf(self.push(body, digest, "a", "b"))

        tagged = self.links.tag(APP, Tag("b"))
        assert tagged is not None
        self.assertEqual(digest, tagged.digest)
        self.failureResultOf(self.push(body + b" ", digest), DigestInvalid)

    def test_media_types(self) -> None:
        """The media type is that of the client, or the manifest's own if the client sends a generic one."""
        for called, body, found in (
            (f"{OCI_MANIFEST}; charset=utf-8", encoded(IMAGE), OCI_MANIFEST),
            (None, encoded(IMAGE), OCI_MANIFEST),
            ("application/json", encoded(INDEX), OCI_INDEX),
            (DOCKER_MANIFEST, encoded(IMAGE, mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
            ("application/vnd.example+json", b'{"any":"thing"}', "application/vnd.example+json"),
        ):
            pushed = self.successResultOf(self.push(body, media_type=called))
            self.assertEqual(found, pushed.manifest.media_type)

    def test_html(self) -> None:
        """A media type that a browser would show as a page, with its scripts, is rejected."""
        page = {"layers": [], "x": "<script>alert(1)</script>"}
        self.assert_rejected(ManifestInvalid, encoded(page), "text/html; charset=utf-8")
        self.assert_rejected(ManifestInvalid, encoded(page, mediaType="text/html"), None)
        self.assert_rejected(ManifestInvalid, encoded(page, mediaType="text/html"), "text/html")
        self.assert_rejected(ManifestInvalid, encoded(page, mediaType="application/x, text/html"), None)
        both = "application/vnd.example+json, text/html"
        self.assertEqual(
            OCI_MANIFEST, self.successResultOf(self.push(encoded(IMAGE), media_type=both)).manifest.media_type
        )

    def test_missing(self) -> None:
        """A reference to content that the repository lacks, or has in another size, is rejected."""
        absent = {**CONFIG, "digest": str(Digest.of(b"absent"))}
        self.assert_rejected(ManifestBlobUnknown, encoded(IMAGE, layers=[absent]))
        self.assert_rejected(ManifestBlobUnknown, encoded(IMAGE, config=absent))
        self.assert_rejected(ManifestBlobUnknown, encoded(INDEX, manifests=[absent]), OCI_INDEX)
        self.assert_rejected(ManifestInvalid, encoded(IMAGE, config={**CONFIG, "size": 3}))

    def test_many_references(self) -> None:
        """Thousands of references are looked up once each, in slices."""
        links: Any = CountingLinks(self.links)
        pusher = ManifestPusher(
            links=links, content=self.store.opened.browser, space=self.space, clock=self.clock
        )
        layers = [
            {**CONFIG, "digest": str(self.push_blob(b"%d" % number)), "size": 1} for number in range(10)
        ]
        body = FakeRequestBody.of(encoded(IMAGE, layers=layers * 300))
        pushed = self.result(pusher.push(APP, Tag("v1"), tags=(), content_type=OCI_MANIFEST, body=body))

        self.assertEqual((3001, 30), (links.look_ups, self.clock.yields))
        self.assertEqual(pushed.blobs, pushed.manifest.references())
        self.assertIs(pushed.manifest.references(), pushed.manifest.references(), "parsed again")

    def test_deleted_meanwhile(self) -> None:
        """Content that is deleted between the first check and the commit is missed."""
        pusher = ManifestPusher(
            links=self.links,
            content=self.store.opened.browser,
            space=DeletingSpace(self.links),
            clock=self.clock,
        )
        for body, media_type in ((encoded(IMAGE), None), (encoded(INDEX, manifests=[CONFIG]), OCI_INDEX)):
            self.push_blob(b"{}")
            pushing = pusher.push(
                APP, Tag("v1"), tags=(), content_type=media_type, body=FakeRequestBody.of(body)
            )
            self.failureResultOf(Deferred.fromCoroutine(pushing), ManifestBlobUnknown)
            self.assertIsNone(self.links.tag(APP, Tag("v1")))

    def test_exempt(self) -> None:
        """Layers that may not be distributed, and the subject, need not be in the repository."""
        for kind in (
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ):
            layer = {"mediaType": kind, "digest": str(Digest.of(b"far")), "size": 3}
            pushed = self.successResultOf(self.push(encoded(IMAGE, layers=[layer], subject=SUBJECT)))
            self.assertEqual(Digest.of(b"subject"), pushed.referrer.subject)

    def test_invalid(self) -> None:
        """An invalid or ambiguous manifest, or one of another media type than announced, is rejected."""
        for body, called in (
            (b"", OCI_MANIFEST),
            (b"[]", OCI_MANIFEST),
            (b"{}", "application/json"),
            (encoded(IMAGE), OCI_INDEX),
            (encoded(IMAGE, schemaVersion=1), OCI_MANIFEST),
            (encoded(IMAGE, manifests=[]), OCI_MANIFEST),
            (encoded(INDEX, layers=[]), OCI_INDEX),
            (encoded(IMAGE, layers={}), OCI_MANIFEST),
            (encoded(IMAGE, layers=[{"digest": "x"}]), OCI_MANIFEST),
            (encoded(IMAGE, config=None), OCI_MANIFEST),
            (encoded(IMAGE, mediaType=5), OCI_MANIFEST),
            (encoded(IMAGE, subject={}), OCI_MANIFEST),
            (encoded({"fsLayers": []}), "application/vnd.docker.distribution.manifest.v1+json"),
            (encoded(INDEX, manifests=[CONFIG] * MAX_REFERENCES), OCI_INDEX),
        ):
            with self.subTest(body=body[:60]):
                self.assert_rejected(ManifestInvalid, body, called)

    def test_bounds(self) -> None:
        """A manifest is rejected if it is too large (unread if it announces that), or if there is no room."""
        body = FakeRequestBody([b""], MAX_MANIFEST_BYTES + 1)
        pushing = self.services.pusher.push(APP, Tag("x"), tags=(), content_type=None, body=body)
        self.failureResultOf(Deferred.fromCoroutine(pushing), ContentTooLarge)
        self.assertFalse(body.is_read)
        stream = FakeRequestBody([b"x" * (MAX_MANIFEST_BYTES // 2)] * 3)
        pushing = self.services.pusher.push(APP, Tag("x"), tags=(), content_type=None, body=stream)
        self.failureResultOf(Deferred.fromCoroutine(pushing), ContentTooLarge)
        self.space.free = 3

        self.assert_rejected(Unavailable, encoded(IMAGE))
