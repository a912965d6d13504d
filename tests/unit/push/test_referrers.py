"""Referrers are listed in order of digest, filtered, in pages that clients read."""

import json
from typing import Any

from twisted.internet.defer import Deferred

from mirrord.oci.content import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.digest import Digest
from mirrord.oci.hosted import HostedLink
from mirrord.oci.names import Tag
from mirrord.push.referrers import MAX_PAGE_BYTES, ReferrersPage, fallback_tag
from tests.unit.push.cases import APP, PushCase

SUBJECT = Digest.of(b"subject")


class ReferrersTests(PushCase):
    def refer(
        self, content: bytes, kind: str | None = None, subject: Digest | None = SUBJECT, **notes: str
    ) -> str:
        digest = Digest.of(content)
        descriptor = Descriptor(OCI_MANIFEST, digest, len(content))
        link = HostedLink(descriptor, True, 0.0, subject, kind, notes or None)
        self.index.links[APP, digest, True] = link
        self.index.manifests[digest] = Manifest(digest, OCI_MANIFEST, content)
        return str(digest)

    def page(self, kind: str | None = None, after: str = "") -> ReferrersPage:
        listing = self.use_cases.referrers.page(APP, SUBJECT, kind, after)
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

    def test_fallback(self) -> None:
        """What clients list under the fallback tag is listed too, once, if it is here."""
        own = self.refer(b"own")
        listed = self.refer(b"listed", subject=None)
        document = {
            "manifests": [{"digest": one, "size": 1} for one in (own, listed, str(Digest.of(b"no")))] + [5]
        }
        tagged = self.refer(json.dumps(document).encode(), subject=None)
        self.index.tagged[APP, fallback_tag(SUBJECT)] = Digest.parse(tagged)

        self.assertEqual(sorted([own, listed]), [entry["digest"] for entry in self.entries(self.page())])

    def test_fallback_tag(self) -> None:
        """The tag is the digest with a dash, cut where a tag would get too long."""
        self.assertEqual(Tag(f"sha256-{SUBJECT.encoded}"), fallback_tag(SUBJECT))
        self.assertEqual(71, len(fallback_tag(Digest.of(b"x", "sha512")).name))
