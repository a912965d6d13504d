"""Manifests are taken when all that they name is there, and kept as they came."""

import json
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.pushed_manifest import PushedManifest
from mirrord.hosted.repository import HostedRepository
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    BlobUnknown,
    ContentTooLarge,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    Unavailable,
    Unsupported,
)
from mirrord.oci.manifests import DOCKER_MANIFEST, MAX_MANIFEST_BYTES, MAX_REFERENCES, OCI_INDEX, OCI_MANIFEST
from mirrord.oci.names import HOSTED, Reference, RepositoryKey, Tag
from mirrord.oci.routes import Page
from tests.fakes.hosted import NOW, MemoryHosted
from tests.unit.hosted.cases import APP, FakeBody, PushCase

CONFIG = {"mediaType": "application/x-config", "digest": str(Digest.of(b"{}")), "size": 2}
IMAGE: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": []}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
SUBJECT = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"subject")), "size": 7}


def written(document: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(document | more).encode()


@attrs.frozen(eq=False)
class ForgetfulRoom:
    """While it makes room, all that was held goes."""

    index: MemoryHosted

    async def make_room_for_push(self, size: int) -> bool:
        self.index.linked.clear()
        return True


class ManifestCase(PushCase):
    def setUp(self) -> None:
        super().setUp()
        self.hold(b"{}")

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
            body=FakeBody.of(body),
        )
        return Deferred.fromCoroutine(pushing)

    def assert_refused(
        self, error: type[Exception], body: bytes, media_type: str | None = OCI_MANIFEST
    ) -> None:
        self.failureResultOf(self.push(body, media_type=media_type), error)
        self.assertIsNone(self.index.tag(APP, Tag("v1")))


class TakingTests(ManifestCase):
    def test_verbatim(self) -> None:
        """A manifest is kept as it came, under its sha256 and its tag."""
        body = b"  " + written(IMAGE, unknown={"a": None})
        manifest = self.successResultOf(self.push(body)).manifest

        self.assertEqual((body, Digest.of(body)), (manifest.body, manifest.digest))
        self.assertEqual(manifest.descriptor, self.index.tag(APP, Tag("v1")))

    def test_by_digest(self) -> None:
        """By a digest of whichever algorithm it is kept under that, with the tags that are given."""
        body = written(IMAGE)
        digest = Digest.of(body, "sha512")
        self.successResultOf(self.push(body, digest, "a", "b"))

        self.assertEqual(digest, self.index.named[APP, Tag("b")])
        self.failureResultOf(self.push(body + b" ", digest), DigestInvalid)

    def test_media_types(self) -> None:
        """It is what the client calls it, or says itself where the client says nothing."""
        for called, body, found in (
            (f"{OCI_MANIFEST}; charset=utf-8", written(IMAGE), OCI_MANIFEST),
            (None, written(IMAGE), OCI_MANIFEST),
            ("application/json", written(INDEX), OCI_INDEX),
            (DOCKER_MANIFEST, written(IMAGE, mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
            ("application/vnd.example+json", b'{"any":"thing"}', "application/vnd.example+json"),
        ):
            pushed = self.successResultOf(self.push(body, media_type=called))
            self.assertEqual(found, pushed.manifest.media_type)

    def test_page(self) -> None:
        """What a browser would show as a page, and run the scripts of, is not taken, whoever calls it so."""
        page = {"layers": [], "x": "<script>alert(1)</script>"}
        self.assert_refused(ManifestInvalid, written(page), "text/html; charset=utf-8")
        self.assert_refused(ManifestInvalid, written(page, mediaType="text/html"), None)

    def test_missing(self) -> None:
        """Of a blob or a manifest that is not in the repository, or of another size there, it is told so."""
        absent = {**CONFIG, "digest": str(Digest.of(b"absent"))}
        self.assert_refused(ManifestBlobUnknown, written(IMAGE, layers=[absent]))
        self.assert_refused(ManifestBlobUnknown, written(IMAGE, config=absent))
        self.assert_refused(ManifestBlobUnknown, written(INDEX, manifests=[absent]), OCI_INDEX)
        self.assert_refused(ManifestInvalid, written(IMAGE, config={**CONFIG, "size": 3}))

    def test_thousands(self) -> None:
        """Of a manifest that names thousands each is looked up once, and others have turns."""
        layers = [
            {**CONFIG, "digest": str(self.hold(b"%d" % number)), "size": 4} for number in range(1000, 4000)
        ]
        pushed = self.successResultOf(self.push(written(IMAGE, layers=layers)))

        self.assertEqual((3001, 30), (len(self.index.looked_up), self.hosting.clock.yields))
        self.assertEqual(pushed.blobs, pushed.manifest.references())
        self.assertIs(pushed.manifest.references(), pushed.manifest.references(), "it is read again")

    def test_what_goes_in_the_meantime(self) -> None:
        """What goes between the first look and the commit is missed all the same."""
        pusher = ManifestPusher(
            links=self.index,
            space=ForgetfulRoom(self.index),
            now=lambda: NOW,
            clock=self.hosting.clock,
        )
        for body, media_type in ((written(IMAGE), None), (written(INDEX, manifests=[CONFIG]), OCI_INDEX)):
            self.hold(b"{}")
            pushing = pusher.push(APP, Tag("v1"), tags=(), content_type=media_type, body=FakeBody.of(body))
            self.failureResultOf(Deferred.fromCoroutine(pushing), ManifestBlobUnknown)
            self.assertIsNone(self.index.tag(APP, Tag("v1")))

    def test_exempt(self) -> None:
        """What may not be distributed need not be there, and neither need the subject."""
        for kind in (
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ):
            layer = {"mediaType": kind, "digest": str(Digest.of(b"far")), "size": 3}
            pushed = self.successResultOf(self.push(written(IMAGE, layers=[layer], subject=SUBJECT)))
            self.assertEqual(Digest.of(b"subject"), pushed.subject)

    def test_invalid(self) -> None:
        """What is none, is two things at once, or is another than it is called, is refused."""
        for body, called in (
            (b"", OCI_MANIFEST),
            (b"[]", OCI_MANIFEST),
            (b"{}", "application/json"),
            (written(IMAGE), OCI_INDEX),
            (written(IMAGE, schemaVersion=1), OCI_MANIFEST),
            (written(IMAGE, manifests=[]), OCI_MANIFEST),
            (written(INDEX, layers=[]), OCI_INDEX),
            (written(IMAGE, layers={}), OCI_MANIFEST),
            (written(IMAGE, layers=[{"digest": "x"}]), OCI_MANIFEST),
            (written(IMAGE, config=None), OCI_MANIFEST),
            (written(IMAGE, mediaType=5), OCI_MANIFEST),
            (written(IMAGE, subject={}), OCI_MANIFEST),
            (written({"fsLayers": []}), "application/vnd.docker.distribution.manifest.v1+json"),
            (written(INDEX, manifests=[CONFIG] * MAX_REFERENCES), OCI_INDEX),
        ):
            with self.subTest(body=body[:60]):
                self.assert_refused(ManifestInvalid, body, called)

    def test_bounds(self) -> None:
        """More than MAX_MANIFEST_BYTES is refused, by its length unread; and what there is no room for."""
        body = FakeBody([b""], MAX_MANIFEST_BYTES + 1)
        pushing = self.services.pusher.push(APP, Tag("x"), tags=(), content_type=None, body=body)
        self.failureResultOf(Deferred.fromCoroutine(pushing), ContentTooLarge)
        self.assertFalse(body.is_read)
        stream = FakeBody([b"x" * (MAX_MANIFEST_BYTES // 2)] * 3)
        pushing = self.services.pusher.push(APP, Tag("x"), tags=(), content_type=None, body=stream)
        self.failureResultOf(Deferred.fromCoroutine(pushing), ContentTooLarge)
        self.hosting.room.free = 3

        self.assert_refused(Unavailable, written(IMAGE))


class DeletionTests(ManifestCase):
    def tags(self, repository: HostedRepository) -> tuple[str, ...]:
        return self.successResultOf(Deferred.fromCoroutine(repository.list_tags(Page()))).tags

    def test_delete(self) -> None:
        """A tag goes alone, a manifest with its tags, a blob by itself; what is gone is unknown."""
        digest = self.successResultOf(self.push(written(IMAGE), Tag("a"), "b", "c")).manifest.digest
        repository = self.hosting.open(RepositoryKey(HOSTED, APP))
        self.successResultOf(Deferred.fromCoroutine(repository.delete_manifest(Tag("a"))))
        self.assertEqual(("b", "c"), self.tags(repository))
        self.successResultOf(Deferred.fromCoroutine(repository.delete_manifest(digest)))
        self.assertEqual((), self.tags(repository))
        self.successResultOf(Deferred.fromCoroutine(repository.delete_blob(Digest.of(b"{}"))))

        for deleting, error in (
            (repository.delete_manifest(Tag("b")), ManifestUnknown),
            (repository.delete_manifest(digest), ManifestUnknown),
            (repository.delete_blob(Digest.of(b"{}")), BlobUnknown),
        ):
            self.failureResultOf(Deferred.fromCoroutine(deleting), error)

    def test_forbidden(self) -> None:
        """Where the configuration says no, nothing is deleted."""
        self.hosting.can_delete = False
        deletion = self.hosting.services().deletion
        deleting = deletion.delete_blob(APP, Digest.of(b"{}"))

        self.failureResultOf(Deferred.fromCoroutine(deleting), Unsupported)
        self.assertIsNotNone(self.index.link(APP, Digest.of(b"{}")))
