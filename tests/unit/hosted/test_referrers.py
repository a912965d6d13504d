"""Referrers are listed in order of digest, filtered, in pages that clients read."""

import json
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.hosted.referrers import MAX_PAGE_BYTES, ReferrersPage, fallback_tag
from mirrord.oci.content import HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import Tag
from tests.unit.hosted.cases import APP, PushCase

SUBJECT = Digest.of(b"subject")


class ReferrersTests(PushCase):
    def refer(
        self, content: bytes, kind: str | None = None, subject: Digest | None = SUBJECT, **notes: str
    ) -> str:
        digest = Digest.of(content)
        descriptor = Descriptor(OCI_MANIFEST, digest, len(content))
        link = HostedLink(
            descriptor=descriptor,
            is_manifest=True,
            linked_at=0.0,
            subject=subject,
            artifact_type=kind,
            annotations=notes or None,
        )
        self.index.linked[APP, digest, True] = link
        self.index.manifests[digest] = Manifest(digest, OCI_MANIFEST, content)
        return str(digest)

    def list_by_tag(self, *entries: object) -> None:
        """Push a list as clients keep it that know no better."""
        tagged = self.refer(json.dumps({"manifests": entries}).encode(), subject=None)
        self.index.named[APP, fallback_tag(SUBJECT)] = Digest.parse(tagged)

    def page(self, kind: str | None = None, after: str = "") -> ReferrersPage:
        listing = self.services.referrers.page(APP, SUBJECT, kind, after)
        return self.successResultOf(Deferred.fromCoroutine(listing))

    def entries(self, page: ReferrersPage) -> list[dict[str, Any]]:
        document = json.loads(page.body)
        self.assertEqual((2, OCI_INDEX), (document["schemaVersion"], document["mediaType"]))
        listed: list[dict[str, Any]] = document["manifests"]
        return listed

    def test_entry(self) -> None:
        """An entry is a descriptor, with the type and the annotations of what it names, where it has any."""
        digest = self.refer(b"sig", "a/b", note="yes")

        self.assertEqual(
            [
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": digest,
                    "size": 3,
                    "artifactType": "a/b",
                    "annotations": {"note": "yes"},
                }
            ],
            self.entries(self.page()),
        )

    def test_odd_entries(self) -> None:
        """What is no string is left out of an entry, for it would cost clients the list."""
        own, listed = self.refer(b"own"), self.refer(b"listed", subject=None)
        link = self.index.linked[APP, Digest.parse(own), True]
        notes = {"good": "yes", "bad": {"deep": 1}}
        self.index.linked[APP, Digest.parse(own), True] = attrs.evolve(link, annotations=notes)
        self.list_by_tag({"digest": listed, "size": 6, "artifactType": 5, "annotations": notes})

        entries = self.entries(self.page())
        self.assertEqual({own, listed}, {entry["digest"] for entry in entries})
        self.assertEqual([{"good": "yes"}] * 2, [entry["annotations"] for entry in entries])
        self.assertFalse(any("artifactType" in entry for entry in entries))

    def test_filter(self) -> None:
        """Only those of the artifact type that is asked for are listed."""
        wanted = self.refer(b"one", "a/b")
        self.refer(b"two", "c/d")
        self.refer(b"three")

        self.assertEqual([wanted], [entry["digest"] for entry in self.entries(self.page("a/b"))])

    def test_pages(self) -> None:
        """A list of more than clients read is given in pages, each of which says where the next begins."""
        digests = sorted(self.refer(bytes([n]), note="x" * (MAX_PAGE_BYTES // 3)) for n in range(5))
        seen, after = [], ""
        while True:
            page = self.page(after=after)
            self.assertLessEqual(len(page.body), MAX_PAGE_BYTES)
            seen += [entry["digest"] for entry in self.entries(page)]
            if page.next_after is None:
                break
            after = page.next_after

        self.assertEqual(digests, seen)

    def test_no_more_than_told(self) -> None:
        """Of a list that is longer than a page no more is read than is told, and the one after it."""
        for number in range(9):
            self.refer(bytes([number]), note="x" * (MAX_PAGE_BYTES // 3))
        shown = self.entries(self.page())

        self.assertEqual(len(shown) + 1, len(self.index.told))

    def test_fallback(self) -> None:
        """What clients list under the fallback tag is listed too, once, if it is here."""
        own = self.refer(b"own")
        listed = self.refer(b"listed", subject=None)
        self.list_by_tag(
            *({"digest": one, "size": 1} for one in (own, listed, str(Digest.of(b"no")))),
            5,
        )

        self.assertEqual(sorted([own, listed]), [entry["digest"] for entry in self.entries(self.page())])

    def test_fallback_tag(self) -> None:
        """The tag is the digest with a dash, cut where a tag would get too long."""
        self.assertEqual(Tag(f"sha256-{SUBJECT.encoded}"), fallback_tag(SUBJECT))
        self.assertEqual(71, len(fallback_tag(Digest.of(b"x", "sha512")).name))
