"""The checks of the OCI conformance suite for manifests, tags and referrers, with a real daemon."""

import json
from typing import Any

from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.integration.pushing import EMPTY_CONFIG, HostedCase, descriptor, digest_of, image, index

NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


class ManifestTests(HostedCase):
    def push(self, manifest: bytes, media_type: str = OCI_MANIFEST) -> None:
        """Push a manifest by its digest, and check that it is stored."""
        digest = digest_of(manifest)
        response = self.pusher.put(self.repository, digest, manifest, media_type)
        self.assertEqual(
            (201, digest), (response.status, response.header("Docker-Content-Digest")), response.body
        )
        self.assertEqual(manifest, self.pusher.request("GET", response.header("Location")).body)
        self.assert_manifest(digest, manifest, media_type)

    def test_image(self) -> None:
        """An image pushed to a tag can be pulled by its tag and by its digest."""
        manifest = self.pusher.push_image(self.repository, "v1", b"layer")

        self.assert_manifest("v1", manifest)
        self.assert_manifest(digest_of(manifest), manifest)

    def test_index(self) -> None:
        """An index of images, an index of indexes, and an empty index can be pushed."""
        one = self.pusher.push_image(self.repository, "one", b"one")
        two = self.pusher.push_image(self.repository, "two", b"two")
        inner = index(one, two)
        self.push(inner, OCI_INDEX)

        self.push(index(inner, media_type=OCI_INDEX), OCI_INDEX)
        self.push(index(), OCI_INDEX)

    def test_artifact(self) -> None:
        """A manifest can have a config of any media type, no layers, unknown fields, and white space."""
        for content in (EMPTY_CONFIG, b"payload"):
            self.pusher.push_blob(self.repository, content)
        config = descriptor(EMPTY_CONFIG, "application/vnd.example+type", data="e30=")
        self.push(image(b"payload", config=EMPTY_CONFIG, artifactType="application/vnd.example"))
        self.push(json.dumps(json.loads(image(b"payload")) | {"config": config}).encode())
        self.push(image())
        self.push(image(custom={"a": [1, None]}))
        self.push(b" \n" + image() + b"\n")

    def test_nondistributable(self) -> None:
        """A nondistributable layer need not be stored; any other layer and config has to be."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        absent = descriptor(b"absent", NONDISTRIBUTABLE)
        self.push(json.dumps(json.loads(image()) | {"layers": [absent]}).encode())

        for manifest in (image(b"absent"), image(config=b"absent")):
            response = self.pusher.put(self.repository, "x", manifest)
            self.assert_error(response, 400, "MANIFEST_BLOB_UNKNOWN")
        response = self.pusher.put(self.repository, "x", index(b"absent"), OCI_INDEX)
        self.assert_error(response, 400, "MANIFEST_BLOB_UNKNOWN")

    def test_sha512(self) -> None:
        """A manifest pushed by its sha512 has that digest, also when it is pulled by a tag."""
        for content in (EMPTY_CONFIG, b"layer"):
            self.pusher.push_blob(self.repository, content, "sha512")
        manifest = image(b"layer", algorithm="sha512")
        digest = digest_of(manifest, "sha512")
        response = self.pusher.put(self.repository, f"{digest}?tag=v1", manifest)

        self.assertEqual((201, digest), (response.status, response.header("Docker-Content-Digest")))
        self.assert_manifest(digest, manifest, algorithm="sha512")
        self.assert_manifest("v1", manifest, algorithm="sha512")

    def test_tag_parameters(self) -> None:
        """A push by digest sets each tag of its query, at least ten, and lists them in OCI-Tag."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        manifest, tags = image(), [f"t{number}" for number in range(12)]
        query = "&".join(f"tag={tag}" for tag in tags)
        response = self.pusher.put(self.repository, f"{digest_of(manifest)}?{query}", manifest)

        self.assertEqual((201, ",".join(tags)), (response.status, response.header("OCI-Tag")))
        for tag in tags:
            self.assert_manifest(tag, manifest)

    def test_large(self) -> None:
        """A manifest of 3.9 MB is accepted; one of more than 4 MiB is 413, with Content-Length or without."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        self.push(image(annotations={f"org.example.{number}": "x" * 10_000 for number in range(390)}))
        large = image(annotations={"org.example": "x" * 4 * 1024 * 1024})

        self.assertEqual(413, self.pusher.put(self.repository, "large", large).status)
        path = self.path("manifests", "large")
        pieces = (large[first : first + 65_536] for first in range(0, len(large), 65_536))
        self.assertEqual(413, self.pusher.request("PUT", path, pieces, Content_Type=OCI_MANIFEST).status)

    def test_wrong_digest(self) -> None:
        """A manifest that does not match its digest is 400, and so is an invalid digest."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        for reference in (digest_of(b"other"), "sha256:baddigeststring"):
            self.assert_error(self.pusher.put(self.repository, reference, image()), 400, "DIGEST_INVALID")
            response = self.pusher.request("GET", self.path("manifests", reference))
            self.assertIn(response.status, {400, 404})

    def test_invalid(self) -> None:
        """Content that is no manifest, or has another media type than declared, is 400."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        for manifest, media_type in (
            (b"no json", OCI_MANIFEST),
            (b"[]", OCI_MANIFEST),
            (image(), OCI_INDEX),
            (image(manifests=[]), OCI_MANIFEST),
            (image(subject={"digest": "x"}), OCI_MANIFEST),
            (b'{"schemaVersion":1,"fsLayers":[]}', "application/json"),
        ):
            response = self.pusher.put(self.repository, "x", manifest, media_type)
            self.assert_error(response, 400, "MANIFEST_INVALID")

    def test_delete(self) -> None:
        """A deleted tag leaves its manifest; a deleted manifest removes its tags; both are 404 at once."""
        manifest = self.pusher.push_image(self.repository, "one", b"layer")
        for tag in ("two", "three"):
            self.pusher.put(self.repository, tag, manifest)
        self.assertEqual(202, self.pusher.request("DELETE", self.path("manifests", "one")).status)
        self.assertEqual(404, self.pusher.request("HEAD", self.path("manifests", "one")).status)
        self.assert_manifest("two", manifest)
        digest = digest_of(manifest)
        self.assertEqual(202, self.pusher.request("DELETE", self.path("manifests", digest)).status)

        for reference in (digest, "two", "three"):
            self.assertEqual(404, self.pusher.request("HEAD", self.path("manifests", reference)).status)
            self.assertEqual(404, self.pusher.request("DELETE", self.path("manifests", reference)).status)


class TagsTests(HostedCase):
    def test_pages(self) -> None:
        """Tags are listed in order, in pages with a Link to the next one; `n=0` is an empty page."""
        manifest = self.pusher.push_image(self.repository, "a0", b"layer")
        tags = ["B", "a0", "a1", "a2", "z"]
        for tag in tags:
            self.pusher.put(self.repository, tag, manifest)
        self.assertEqual(
            {"name": self.repository, "tags": tags},
            self.pusher.request("GET", self.path("tags", "list")).document,
        )
        listed, path = [], self.path("tags", "list?n=2")
        while path:
            response = self.pusher.request("GET", path)
            listed += response.document["tags"]
            path = response.header("Link").partition(">")[0].removeprefix("<")
        self.assertEqual(tags, listed)
        response = self.pusher.request("GET", self.path("tags", "list?n=0"))
        self.assertEqual(([], ""), (response.document["tags"], response.header("Link")))
        response = self.pusher.request("GET", self.path("tags", "list?last=a1"))
        self.assertEqual(["a2", "z"], response.document["tags"])

    def test_empty(self) -> None:
        """The tags of a repository without content are an empty list, not an error."""
        response = self.pusher.request("GET", self.path("tags", "list"))

        self.assertEqual((200, []), (response.status, response.document["tags"]))

    def test_catalog(self) -> None:
        """The catalog lists all hosted repositories, page by page."""
        for name in ("conf/cat-a", "conf/cat-b", "conf/cat-c"):
            self.pusher.push_blob(name, b"x")
        response = self.pusher.request("GET", "/v2/_catalog?n=2&last=conf/cat")
        self.assertEqual(["conf/cat-a", "conf/cat-b"], response.document["repositories"])
        following = response.header("Link").partition(">")[0].removeprefix("<")

        self.assertEqual("conf/cat-c", self.pusher.request("GET", following).document["repositories"][0])


class ReferrersTests(HostedCase):
    def referrers(self, subject: bytes, query: str = "") -> list[str]:
        response = self.pusher.request("GET", self.path("referrers", digest_of(subject) + query))
        self.assertEqual((200, OCI_INDEX), (response.status, response.header("Content-Type")))
        self.assertEqual((2, OCI_INDEX), (response.document["schemaVersion"], response.document["mediaType"]))
        self.assertEqual("artifactType" if query else "", response.header("OCI-Filters-Applied"))
        return [entry["digest"] for entry in response.document["manifests"]]

    def test_unknown(self) -> None:
        """An unknown subject in an unknown repository has no referrers; an invalid digest is 400."""
        self.assertEqual([], self.referrers(b"unknown"))
        response = self.pusher.request("GET", self.path("referrers", "sha256:bad"))
        self.assert_error(response, 400, "DIGEST_INVALID")

    def test_subject(self) -> None:
        """A manifest with a subject, stored or not, is listed as a referrer until it is deleted."""
        for content in (EMPTY_CONFIG, b"layer"):
            self.pusher.push_blob(self.repository, content)
        subject = image(b"layer")
        common: dict[str, Any] = {"subject": descriptor(subject, OCI_MANIFEST), "annotations": {"a": "b"}}
        signature = image(artifactType="application/vnd.example.sig", **common)
        plain = image(**common)
        listing = index(**common)
        for manifest, media_type in ((signature, OCI_MANIFEST), (plain, OCI_MANIFEST), (listing, OCI_INDEX)):
            response = self.pusher.put(self.repository, digest_of(manifest), manifest, media_type)
            self.assertEqual((201, digest_of(subject)), (response.status, response.header("OCI-Subject")))
        self.pusher.put(self.repository, "subject", subject)

        everything = sorted(map(digest_of, (signature, plain, listing)))
        self.assertEqual(everything, self.referrers(subject))
        for artifact_type, digests in (
            ("application%2Fvnd.example.sig", [digest_of(signature)]),
            ("application%2Fvnd.oci.image.config.v1%2Bjson", [digest_of(plain)]),
            ("none", []),
        ):
            self.assertEqual(digests, self.referrers(subject, f"?artifactType={artifact_type}"))
        response = self.pusher.request("GET", self.path("referrers", digest_of(subject)))
        (entry,) = [each for each in response.document["manifests"] if each["digest"] == digest_of(signature)]
        self.assertEqual(
            descriptor(signature, OCI_MANIFEST)
            | {"artifactType": "application/vnd.example.sig", "annotations": {"a": "b"}},
            entry,
        )
        self.pusher.request("DELETE", self.path("manifests", digest_of(plain)))
        self.assertEqual(sorted({*everything} - {digest_of(plain)}), self.referrers(subject))

    def test_fallback_tag(self) -> None:
        """Referrers that a client lists under the fallback tag are listed, too, if they are stored."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        old = self.pusher.push_image(self.repository, "old", b"old")
        subject = image()
        tag = digest_of(subject).replace(":", "-")
        self.assertEqual(201, self.pusher.put(self.repository, tag, index(old), OCI_INDEX).status)

        self.assertEqual([digest_of(old)], self.referrers(subject))
