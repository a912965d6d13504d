"""The checks of the OCI conformance suite before a real daemon: manifests, tags, referrers, deletes."""

import json
from typing import Any

from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.integration.pushing import EMPTY_CONFIG, HostedCase, descriptor, digest_of, image, index

NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


class ManifestTests(HostedCase):
    def push(self, manifest: bytes, media_type: str = OCI_MANIFEST) -> None:
        """Push it by its digest, and see that it is there."""
        digest = digest_of(manifest)
        said = self.pusher.put(self.repository, digest, manifest, media_type)
        self.assertEqual((201, digest), (said.status, said.header("Docker-Content-Digest")), said.body)
        self.assertEqual(manifest, self.pusher.ask("GET", said.header("Location")).body)
        self.assert_manifest(digest, manifest, media_type)

    def test_image(self) -> None:
        """An image is pushed to a tag, and is there by its tag and by its digest."""
        manifest = self.pusher.push_image(self.repository, "v1", b"layer")

        self.assert_manifest("v1", manifest)
        self.assert_manifest(digest_of(manifest), manifest)

    def test_index(self) -> None:
        """An index of images is pushed, and an index of indexes."""
        one = self.pusher.push_image(self.repository, "one", b"one")
        two = self.pusher.push_image(self.repository, "two", b"two")
        inner = index(one, two)
        self.push(inner, OCI_INDEX)

        self.push(index(inner, media_type=OCI_INDEX), OCI_INDEX)
        self.push(index(), OCI_INDEX)

    def test_artifact(self) -> None:
        """An artifact with a config of any media type is pushed, one without layers too, with any fields."""
        for content in (EMPTY_CONFIG, b"payload"):
            self.pusher.push_blob(self.repository, content)
        config = descriptor(EMPTY_CONFIG, "application/vnd.example+type", data="e30=")
        self.push(image(b"payload", config=EMPTY_CONFIG, artifactType="application/vnd.example"))
        self.push(json.dumps(json.loads(image(b"payload")) | {"config": config}).encode())
        self.push(image())
        self.push(image(custom={"a": [1, None]}))
        self.push(b" \n" + image() + b"\n")

    def test_nondistributable(self) -> None:
        """A layer that may not be distributed need not be there; any other has to."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        absent = descriptor(b"absent", NONDISTRIBUTABLE)
        self.push(json.dumps(json.loads(image()) | {"layers": [absent]}).encode())

        for manifest in (image(b"absent"), image(config=b"absent")):
            said = self.pusher.put(self.repository, "x", manifest)
            self.assert_error(said, 400, "MANIFEST_BLOB_UNKNOWN")
        said = self.pusher.put(self.repository, "x", index(b"absent"), OCI_INDEX)
        self.assert_error(said, 400, "MANIFEST_BLOB_UNKNOWN")

    def test_sha512(self) -> None:
        """A manifest that is pushed by its sha512 is known by that, through its tags too."""
        for content in (EMPTY_CONFIG, b"layer"):
            self.pusher.push_blob(self.repository, content, "sha512")
        manifest = image(b"layer", algorithm="sha512")
        digest = digest_of(manifest, "sha512")
        said = self.pusher.put(self.repository, f"{digest}?tag=v1", manifest)

        self.assertEqual((201, digest), (said.status, said.header("Docker-Content-Digest")))
        self.assert_manifest(digest, manifest, algorithm="sha512")
        self.assert_manifest("v1", manifest, algorithm="sha512")

    def test_tag_parameters(self) -> None:
        """Each tag that a push by digest gives is told by OCI-Tag and there, ten of them at least."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        manifest, tags = image(), [f"t{number}" for number in range(12)]
        query = "&".join(f"tag={tag}" for tag in tags)
        said = self.pusher.put(self.repository, f"{digest_of(manifest)}?{query}", manifest)

        self.assertEqual((201, ",".join(tags)), (said.status, said.header("OCI-Tag")))
        for tag in tags:
            self.assert_manifest(tag, manifest)

    def test_large(self) -> None:
        """A manifest of 3.9 MB is taken; one of more than 4 MiB is 413, told before it is sent or not."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        self.push(image(annotations={f"org.example.{number}": "x" * 10_000 for number in range(390)}))
        large = image(annotations={"org.example": "x" * 4 * 1024 * 1024})

        self.assertEqual(413, self.pusher.put(self.repository, "large", large).status)
        path = self.path("manifests", "large")
        pieces = (large[first : first + 65_536] for first in range(0, len(large), 65_536))
        self.assertEqual(413, self.pusher.ask("PUT", path, pieces, Content_Type=OCI_MANIFEST).status)

    def test_wrong_digest(self) -> None:
        """Bytes that are not what the digest names are 400, and so is a digest that is none."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        for reference in (digest_of(b"other"), "sha256:baddigeststring"):
            self.assert_error(self.pusher.put(self.repository, reference, image()), 400, "DIGEST_INVALID")
            said = self.pusher.ask("GET", self.path("manifests", reference))
            self.assertIn(said.status, {400, 404})

    def test_invalid(self) -> None:
        """What is no manifest, or is called another one than it is, is 400."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        for manifest, media_type in (
            (b"no json", OCI_MANIFEST),
            (b"[]", OCI_MANIFEST),
            (image(), OCI_INDEX),
            (image(manifests=[]), OCI_MANIFEST),
            (image(subject={"digest": "x"}), OCI_MANIFEST),
            (b'{"schemaVersion":1,"fsLayers":[]}', "application/json"),
        ):
            said = self.pusher.put(self.repository, "x", manifest, media_type)
            self.assert_error(said, 400, "MANIFEST_INVALID")

    def test_delete(self) -> None:
        """A deleted tag is gone alone; a deleted manifest is gone with its tags; both are 404 at once."""
        manifest = self.pusher.push_image(self.repository, "one", b"layer")
        for tag in ("two", "three"):
            self.pusher.put(self.repository, tag, manifest)
        self.assertEqual(202, self.pusher.ask("DELETE", self.path("manifests", "one")).status)
        self.assertEqual(404, self.pusher.ask("HEAD", self.path("manifests", "one")).status)
        self.assert_manifest("two", manifest)
        digest = digest_of(manifest)
        self.assertEqual(202, self.pusher.ask("DELETE", self.path("manifests", digest)).status)

        for reference in (digest, "two", "three"):
            self.assertEqual(404, self.pusher.ask("HEAD", self.path("manifests", reference)).status)
            self.assertEqual(404, self.pusher.ask("DELETE", self.path("manifests", reference)).status)


class TagsTests(HostedCase):
    def test_pages(self) -> None:
        """Tags are listed in order, page by page, each with the way to the next; `n=0` is an empty page."""
        manifest = self.pusher.push_image(self.repository, "a0", b"layer")
        tags = ["B", "a0", "a1", "a2", "z"]
        for tag in tags:
            self.pusher.put(self.repository, tag, manifest)
        self.assertEqual(
            {"name": self.repository, "tags": tags},
            self.pusher.ask("GET", self.path("tags", "list")).document,
        )
        seen, path = [], self.path("tags", "list?n=2")
        while path:
            said = self.pusher.ask("GET", path)
            seen += said.document["tags"]
            path = said.header("Link").partition(">")[0].removeprefix("<")
        self.assertEqual(tags, seen)
        said = self.pusher.ask("GET", self.path("tags", "list?n=0"))
        self.assertEqual(([], ""), (said.document["tags"], said.header("Link")))
        said = self.pusher.ask("GET", self.path("tags", "list?last=a1"))
        self.assertEqual(["a2", "z"], said.document["tags"])

    def test_empty(self) -> None:
        """A repository that nobody pushed to has no tags, and no error."""
        said = self.pusher.ask("GET", self.path("tags", "list"))

        self.assertEqual((200, []), (said.status, said.document["tags"]))

    def test_catalog(self) -> None:
        """All hosted repositories are listed, page by page."""
        for name in ("conf/cat-a", "conf/cat-b", "conf/cat-c"):
            self.pusher.push_blob(name, b"x")
        said = self.pusher.ask("GET", "/v2/_catalog?n=2&last=conf/cat")
        self.assertEqual(["conf/cat-a", "conf/cat-b"], said.document["repositories"])
        following = said.header("Link").partition(">")[0].removeprefix("<")

        self.assertEqual("conf/cat-c", self.pusher.ask("GET", following).document["repositories"][0])


class ReferrersTests(HostedCase):
    def referrers(self, subject: bytes, query: str = "") -> list[str]:
        said = self.pusher.ask("GET", self.path("referrers", digest_of(subject) + query))
        self.assertEqual((200, OCI_INDEX), (said.status, said.header("Content-Type")))
        self.assertEqual((2, OCI_INDEX), (said.document["schemaVersion"], said.document["mediaType"]))
        self.assertEqual("artifactType" if query else "", said.header("OCI-Filters-Applied"))
        return [entry["digest"] for entry in said.document["manifests"]]

    def test_unknown(self) -> None:
        """Of a subject that nobody knows, in a repository that nobody knows, the list is empty."""
        self.assertEqual([], self.referrers(b"unknown"))
        said = self.pusher.ask("GET", self.path("referrers", "sha256:bad"))
        self.assert_error(said, 400, "DIGEST_INVALID")

    def test_subject(self) -> None:
        """A manifest or index with a subject, there or not, is told so and listed, until it is deleted."""
        for content in (EMPTY_CONFIG, b"layer"):
            self.pusher.push_blob(self.repository, content)
        subject = image(b"layer")
        about: dict[str, Any] = {"subject": descriptor(subject, OCI_MANIFEST), "annotations": {"a": "b"}}
        signature = image(artifactType="application/vnd.example.sig", **about)
        plain = image(**about)
        listing = index(**about)
        for manifest, media_type in ((signature, OCI_MANIFEST), (plain, OCI_MANIFEST), (listing, OCI_INDEX)):
            said = self.pusher.put(self.repository, digest_of(manifest), manifest, media_type)
            self.assertEqual((201, digest_of(subject)), (said.status, said.header("OCI-Subject")))
        self.pusher.put(self.repository, "subject", subject)

        everything = sorted(map(digest_of, (signature, plain, listing)))
        self.assertEqual(everything, self.referrers(subject))
        for kind, found in (
            ("application%2Fvnd.example.sig", [digest_of(signature)]),
            ("application%2Fvnd.oci.image.config.v1%2Bjson", [digest_of(plain)]),
            ("none", []),
        ):
            self.assertEqual(found, self.referrers(subject, f"?artifactType={kind}"))
        said = self.pusher.ask("GET", self.path("referrers", digest_of(subject)))
        (entry,) = [one for one in said.document["manifests"] if one["digest"] == digest_of(signature)]
        self.assertEqual(
            descriptor(signature, OCI_MANIFEST)
            | {"artifactType": "application/vnd.example.sig", "annotations": {"a": "b"}},
            entry,
        )
        self.pusher.ask("DELETE", self.path("manifests", digest_of(plain)))
        self.assertEqual(sorted({*everything} - {digest_of(plain)}), self.referrers(subject))

    def test_fallback_tag(self) -> None:
        """What a client lists under the fallback tag, and is here, is listed too."""
        self.pusher.push_blob(self.repository, EMPTY_CONFIG)
        old = self.pusher.push_image(self.repository, "old", b"old")
        subject = image()
        tag = digest_of(subject).replace(":", "-")
        self.assertEqual(201, self.pusher.put(self.repository, tag, index(old), OCI_INDEX).status)

        self.assertEqual([digest_of(old)], self.referrers(subject))
