"""Tests of mirrord/admin/sweep.py."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mirrord.admin.sweep import last_sweep_document, sweep_document
from mirrord.gc.collector import SweepPreview, SweepResult
from mirrord.gc.hosted import EvictedContent, HostedSweepPreview, HostedSweepResult
from mirrord.oci.content import ContentKind, Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag

APP = RepositoryName("team/app")
A, B, C = (Digest.of(body) for body in (b"a", b"b", b"c"))
HOSTED = HostedSweepResult(tags=1, manifests=2, blobs=3, uploads=4, removed=EvictedContent(5, 50))
RESULT = SweepResult(started_at=5.0, seconds=1.5, evicted=EvictedContent(1, 10), forgotten=7, hosted=HOSTED)


def preview(unreferenced: int = 1) -> SweepPreview:
    old, signature = (HostedManifest(digest=digest, size=1, idle_seconds=9.0) for digest in (A, B))
    tags = (HostedTag(Tag("1"), A, 9.0), HostedTag(Tag("sig"), B, 9.0))
    plan = RetentionPlan(repository=APP, tags=tags, manifests=(old, signature), rules={Tag("1"): 2, A: 2})
    hosted = HostedSweepPreview(HOSTED, (plan,), ((APP, C),) * unreferenced)
    return SweepPreview(
        EvictedContent(2, 20), (Entry(kind=ContentKind.PARTIAL, name="x", size=5, idle_seconds=7.0),), hosted
    )


def victims(sweep: SweepPreview) -> list[dict[str, Any]]:
    hosted = sweep_document(sweep)["hosted"]
    assert isinstance(hosted, dict)
    found = hosted["victims"]
    assert isinstance(found, list)
    return found


class SweepDocumentTests(SynchronousTestCase):
    def test_result(self) -> None:
        """A sweep is described by totals."""
        self.assertEqual(
            '{"is_dry_run": false, "entries": 1, "bytes": 10, "victims": [], "hosted": {"tags": 1, '
            '"manifests": 2, "blobs": 3, "uploads": 4, "entries": 5, "bytes": 50, "victims": []}}',
            json.dumps(sweep_document(RESULT)),
        )

    def test_preview(self) -> None:
        """A preview also lists what would be evicted."""
        document = json.dumps(sweep_document(preview()))
        self.assertTrue(
            document.startswith(
                '{"is_dry_run": true, "entries": 2, "bytes": 20, "victims": [{"kind": "leftover", "name": '
                '"x", "bytes": 5, "idle_seconds": 7.0}], "hosted": {"tags": 1, "manifests": 2, "blobs": 3, '
                '"uploads": 4, "entries": 5, "bytes": 50, "victims": [{"kind": "tag", "repository": '
                '"team/app", "name": "1", "reason": "hosted.keep[2]"}, '
            ),
            document,
        )

    def test_hosted(self) -> None:
        """A victim of a hosted repository has the rule that decides, or another reason."""
        self.assertEqual(
            [
                ("tag", "team/app", "1", "hosted.keep[2]"),
                ("tag", "team/app", "sig", "its manifest is removed"),
                ("manifest", "team/app", str(A), "hosted.keep[2]"),
                ("manifest", "team/app", str(B), "it depends on what is removed"),
                ("blob", "team/app", str(C), "no manifest references it"),
            ],
            [tuple(victim.values()) for victim in victims(preview())],
        )

    def test_many(self) -> None:
        """No more than a thousand victims are listed."""
        self.assertEqual(1000, len(victims(preview(unreferenced=2000))))

    def test_last_sweep(self) -> None:
        """The status has the totals of the last sweep, and null before the first."""
        self.assertEqual(
            '{"started_at": 5.0, "seconds": 1.5, "entries": 1, "bytes": 10, "forgotten": 7, '
            '"hosted_entries": 5, "hosted_bytes": 50}',
            json.dumps(last_sweep_document(RESULT)),
        )
        self.assertIsNone(last_sweep_document(None))
