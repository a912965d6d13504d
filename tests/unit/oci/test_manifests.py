"""Manifests: media type, digest and references."""

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, ManifestInvalid, ManifestUnknown, RegistryError
from mirrord.oci.manifests import (
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1_SIGNED,
    MAX_BRACKETS,
    MAX_REFERENCES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    clean_media_type,
    is_distributable,
    read_document,
)

ONE, TWO, THREE = (Digest.of(content) for content in (b"1", b"2", b"3"))


def body(**document: object) -> bytes:
    return json.dumps(document).encode()


def entry(digest: Digest, size: object = 1, **more: object) -> dict[str, object]:
    return {"digest": str(digest), "size": size, "mediaType": "m", **more}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
KEYS = ["config", "layers", "manifests", "blobs", "mediaType", "fsLayers", "digest", "size"]


class ParseTests(SynchronousTestCase):
    def test_verbatim(self) -> None:
        """A manifest keeps its bytes unchanged, and its digest is their sha256."""
        content = b' {"config": {}, "layers": []}\n'
        manifest = Manifest.parse(content, OCI_MANIFEST)
        self.assertEqual(manifest.body, content)
        self.assertEqual(manifest.descriptor, Descriptor(OCI_MANIFEST, Digest.of(content), len(content)))

    def test_digest_decides(self) -> None:
        """A manifest that does not match the requested digest is rejected; otherwise that is its digest."""
        content = body(manifests=[])
        requested = Digest.of(content, "sha512")
        self.assertEqual(Manifest.parse(content, OCI_INDEX, requested).digest, requested)
        self.assertRaises(DigestInvalid, Manifest.parse, content + b" ", OCI_INDEX, requested)

    def test_media_type(self) -> None:
        """The Content-Type decides; where it is generic, the body's mediaType does, then its structure."""
        image: dict[str, object] = {"config": {}, "layers": []}
        for content_type, document, media_type in (
            (OCI_MANIFEST, image, OCI_MANIFEST),
            (f"{OCI_MANIFEST}; charset=utf-8", image, OCI_MANIFEST),
            (OCI_MANIFEST.upper(), image, OCI_MANIFEST),
            (DOCKER_MANIFEST, {"mediaType": OCI_MANIFEST}, DOCKER_MANIFEST),
            ("text/plain; charset=utf-8", {"mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST),
            ("application/json", {"manifests": []}, OCI_INDEX),
            ("", image, OCI_MANIFEST),
            (None, {"mediaType": 5, **image}, OCI_MANIFEST),
            (None, {"mediaType": "text/plain", **image}, OCI_MANIFEST),
            (None, {"mediaType": "\ud800", **image}, OCI_MANIFEST),
            (None, {"mediaType": "m\0", "manifests": None}, OCI_INDEX),
            ("application/\xe9", image, OCI_MANIFEST),
            ("application/" + "x" * 300, image, OCI_MANIFEST),
            ("application/vnd.example+json", image, "application/vnd.example+json"),
            (None, {"mediaType": ARTIFACT, "blobs": []}, ARTIFACT),
        ):
            self.assertEqual(Manifest.parse(body(**document), content_type).media_type, media_type)

    def test_schema1(self) -> None:
        """A schema 1 manifest, which cannot be verified, is MANIFEST_UNKNOWN whatever its Content-Type."""
        for content_type in (DOCKER_SCHEMA1_SIGNED, "text/plain", None, OCI_MANIFEST):
            self.assertRaises(ManifestUnknown, Manifest.parse, body(fsLayers=[]), content_type)

    def test_no_manifest(self) -> None:
        """A body that is not a JSON object, or has no known structure, is not a manifest."""
        for content in (b"", b"<html>", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a": 1}'):
            self.assertRaises(ManifestInvalid, Manifest.parse, content, None)

    def test_strict(self) -> None:
        """Only JSON that every parser accepts is accepted: UTF-8 (RFC 8259, section 8.1), and no NaN."""
        text = '{"layers": [], "x": 1}'
        self.assertEqual([], read_document(text.encode())["layers"])
        odd = (
            text.encode("utf-16"),
            text.encode("utf-8-sig"),
            b'{"x": "\xff"}',
            b'{"x": NaN}',
            b'{"x": -Infinity}',
        )
        for content in odd:
            self.assertRaises(ManifestInvalid, read_document, content)

    def test_other_media_types(self) -> None:
        """A Content-Type that is not an application's is replaced by what the body shows, or rejected."""
        for content_type in ("text/html", "TEXT/HTML; charset=utf-7", "image/svg+xml", "multipart/mixed"):
            for document, found in (
                ({"layers": []}, OCI_MANIFEST),
                ({"manifests": []}, OCI_INDEX),
                ({"layers": [], "mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST),
            ):
                self.assertEqual(found, Manifest.parse(body(**document), content_type).media_type)
            for declared in ("text/html", "image/svg+xml"):
                page = body(layers=[], mediaType=declared)
                self.assertRaises(ManifestInvalid, Manifest.parse, page, content_type)
                self.assertRaises(ManifestInvalid, Manifest.parse, page, None)

    def test_invalid_media_types(self) -> None:
        """What is not a type and a subtype is no media type, so that a header has exactly one."""
        for text in (
            "application/json, text/html",
            "application/x\r\nX-Injected: 1",
            "application/x\x00",
            "application/é",
            "application/x y",
            "application/",
            "application",
            "application/x/y",
            'application/x"y"',
            "application/" + "x" * 300,
        ):
            self.assertEqual("", clean_media_type(text), text)
            self.assertEqual(OCI_MANIFEST, Manifest.parse(body(layers=[]), text).media_type)
            self.assertEqual(OCI_MANIFEST, Manifest.parse(body(layers=[], mediaType=text), None).media_type)
        self.assertEqual(OCI_INDEX, clean_media_type(f" {OCI_INDEX.upper()} ; charset=utf-7"))

    def test_bomb(self) -> None:
        """A manifest with too many lists and objects is not parsed, which would take seconds."""
        for part in (b"[],", b'{"a":1},'):
            with self.assertRaises(ManifestInvalid) as caught:
                read_document(b'{"layers": [], "x": [' + part * MAX_BRACKETS + b"1]}")
            self.assertIn("too many lists", caught.exception.message)
        entries = [entry(ONE, platform={}, annotations={}, urls=[])] * MAX_REFERENCES
        self.assertEqual(entries, read_document(body(layers=entries))["layers"])

    def test_error_called_a_manifest(self) -> None:
        """A document without a manifest's structure is rejected, whatever its Content-Type."""
        for content_type in (None, "text/html", "application/vnd.example+json", OCI_MANIFEST):
            self.assertRaises(ManifestInvalid, Manifest.parse, body(errors=[]), content_type)

    def test_body_is_not_in_repr(self) -> None:
        """The repr of a manifest does not contain its bytes."""
        self.assertNotIn("layers", repr(Manifest.parse(body(config={}, layers=[]), None)))

    @given(
        st.binary() | st.dictionaries(st.sampled_from(KEYS), JSON).map(lambda each: json.dumps(each).encode())
    )
    def test_any_bytes(self, content: bytes) -> None:
        """Any body is a manifest whose references can be read, or an error."""
        try:
            manifest = Manifest.parse(content, None)
        except RegistryError:
            return
        for descriptor in (manifest.descriptor, *manifest.references()):
            self.assertIn(descriptor.size, range(2**63))
            self.assertTrue(descriptor.media_type.isascii())


class ReferenceTests(SynchronousTestCase):
    def test_image(self) -> None:
        """An image references its config and its layers, in order."""
        manifest = Manifest.parse(
            body(config=entry(ONE), layers=[entry(TWO, 2), entry(THREE, 3)]), OCI_MANIFEST
        )
        self.assertEqual(
            manifest.references(),
            (Descriptor("m", ONE, 1), Descriptor("m", TWO, 2), Descriptor("m", THREE, 3)),
        )

    def test_index(self) -> None:
        """An index references its manifests; a subject is not among the references."""
        manifest = Manifest.parse(body(manifests=[entry(ONE)], subject=entry(TWO)), OCI_INDEX)
        self.assertEqual(manifest.references(), (Descriptor("m", ONE, 1),))

    def test_absurdly_many(self) -> None:
        """At most MAX_REFERENCES entries are read, whether well-formed or not."""
        for first in (entry(ONE), {}):
            manifest = Manifest.parse(body(config=entry(TWO), layers=[first] * 50_000), OCI_MANIFEST)
            looked_at = [] if first == {} else [Descriptor("m", ONE, 1)] * (MAX_REFERENCES - 1)
            self.assertEqual(manifest.references(), (Descriptor("m", TWO, 1), *looked_at))
        manifest = Manifest.parse(body(layers=[{}] * 50_000, manifests=[entry(ONE)]), OCI_INDEX)
        self.assertEqual(manifest.references(), ())

    def test_malformed(self) -> None:
        """A malformed entry is skipped, others are not."""
        entries = [
            5,
            None,
            {},
            entry(ONE, "1"),
            entry(ONE, -1),
            entry(ONE, 1.5),
            entry(ONE, True),
            entry(ONE, 2**63),
            entry(ONE, mediaType="\ud800"),
            entry(ONE, mediaType="caf\xe9"),
            entry(ONE, mediaType="m\n"),
            entry(ONE, mediaType=5),
            {"digest": "sha256:x", "size": 1},
            entry(TWO),
            entry(THREE, 2**63 - 1),
        ]
        manifest = Manifest.parse(body(config=[], layers=entries), OCI_MANIFEST)
        self.assertEqual(manifest.references(), (Descriptor("m", TWO, 1), Descriptor("m", THREE, 2**63 - 1)))


class DistributableTests(SynchronousTestCase):
    def test_image_spec(self) -> None:
        """The non-distributable layers of OCI and the foreign layers of Docker are not distributable."""
        for media_type in (
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ):
            self.assertFalse(is_distributable(Descriptor(media_type, ONE, 1)), media_type)

    def test_others(self) -> None:
        """Every other layer is distributable, even if its media type contains those words."""
        for media_type in (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.example.foreign.v1.tar",
            OCI_MANIFEST,
            "",
        ):
            self.assertTrue(is_distributable(Descriptor(media_type, ONE, 1)), media_type)
