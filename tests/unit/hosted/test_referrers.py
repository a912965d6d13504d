"""Tests of mirrord/hosted/referrers.py."""

import json
from typing import Any

from mirrord.hosted.referrers import MAX_PAGE_BYTES, HostedReferrers, ReferrersPage, fallback_tag
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Manifest
from mirrord.oci.names import Tag
from mirrord.oci.referrer import Referrer
from tests.unit.hosted.cases import APP, CountingLinks, HostedCase

SUBJECT = Digest.of(b"subject")


class HostedReferrersTests(HostedCase):
    def refer(
        self,
        content: bytes,
        artifact_type: Any = None,
        subject: Digest | None = SUBJECT,
        annotations: dict[str, Any] | None = None,
        tags: tuple[Tag, ...] = (),
    ) -> str:
        """Store a manifest that refers to `subject`."""
        digest = Digest.of(content)
        referrer = Referrer(subject, artifact_type, annotations)
        manifest = Manifest(digest, OCI_MANIFEST, content, references=())
        self.result(self.links.put_manifest(APP, manifest, tags, referrer=referrer))
        return str(digest)

    def list_by_tag(self, *entries: object) -> None:
        """Push a list under the fallback tag, as clients do that do not know the referrers API."""
        index = json.dumps({"manifests": entries}).encode()
        self.refer(index, subject=None, tags=(fallback_tag(SUBJECT),))

    def page(self, artifact_type: str | None = None, after: str = "") -> ReferrersPage:
        return self.result(self.services.referrers.page(APP, SUBJECT, artifact_type, after))

    def entries(self, page: ReferrersPage) -> list[dict[str, Any]]:
        document = json.loads(page.body)
        self.assertEqual((2, OCI_INDEX), (document["schemaVersion"], document["mediaType"]))
        listed: list[dict[str, Any]] = document["manifests"]
        return listed

    def test_entry(self) -> None:
        """An entry is a descriptor with the artifact type and the annotations of the manifest."""
        digest = self.refer(b"signature", "a/b", annotations={"note": "yes"})

        self.assertEqual(
            [
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": digest,
                    "size": 9,
                    "artifactType": "a/b",
                    "annotations": {"note": "yes"},
                }
            ],
            self.entries(self.page()),
        )

    def test_odd_entries(self) -> None:
        """Values that are not strings are left out of an entry: some clients would reject the whole list."""
        notes = {"good": "yes", "bad": {"deep": 1}}
        own, listed = self.refer(b"own", annotations=notes), self.refer(b"listed", subject=None)
        self.list_by_tag({"digest": listed, "size": 6, "artifactType": 5, "annotations": notes})

        entries = self.entries(self.page())
        self.assertEqual({own, listed}, {entry["digest"] for entry in entries})
        self.assertEqual([{"good": "yes"}] * 2, [entry["annotations"] for entry in entries])
        self.assertFalse(any("artifactType" in entry for entry in entries))

    def test_filter(self) -> None:
        """With an artifact type, only the referrers of that type are listed."""
        one = self.refer(b"one", "a/b")
        self.refer(b"two", "c/d")
        self.refer(b"three")

        self.assertEqual([one], [entry["digest"] for entry in self.entries(self.page("a/b"))])

    def test_pages(self) -> None:
        """A long list is split into pages that clients accept, each with the beginning of the next."""
        note = {"note": "x" * (MAX_PAGE_BYTES // 3)}
        digests = sorted(self.refer(bytes([number]), annotations=note) for number in range(5))
        listed, after = [], ""
        while True:
            page = self.page(after=after)
            self.assertLessEqual(len(page.body), MAX_PAGE_BYTES)
            listed += [entry["digest"] for entry in self.entries(page)]
            if page.next_after is None:
                break
            after = page.next_after

        self.assertEqual(digests, listed)

    def test_rest_is_not_parsed(self) -> None:
        """A page of a long list reads no more than its entries and the one after them."""
        links: Any = CountingLinks(self.links)
        for number in range(9):
            self.refer(bytes([number]), annotations={"note": "x" * (MAX_PAGE_BYTES // 3)})
        page = self.result(HostedReferrers(links, self.store.opened.manifests).page(APP, SUBJECT, None, ""))

        self.assertEqual(len(self.entries(page)) + 1, links.referrers_read)

    def test_fallback(self) -> None:
        """Stored manifests listed under the fallback tag are listed too, each once."""
        own = self.refer(b"own")
        listed = self.refer(b"listed", subject=None)
        self.list_by_tag(
            *({"digest": one, "size": 1} for one in (own, listed, str(Digest.of(b"no")))),
            5,
        )

        self.assertEqual(sorted([own, listed]), [entry["digest"] for entry in self.entries(self.page())])

    def test_fallback_tag(self) -> None:
        """The fallback tag is the digest with a dash, cut where it would be too long for a tag."""
        self.assertEqual(Tag(f"sha256-{SUBJECT.encoded}"), fallback_tag(SUBJECT))
        self.assertEqual(71, len(fallback_tag(Digest.of(b"x", "sha512")).name))
