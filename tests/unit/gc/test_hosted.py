"""Tests of mirrord/gc/hosted.py, over a real store."""

import attrs
from twisted.internet.defer import Deferred

from mirrord.gc.hosted import (
    MANIFESTS_PER_TRANSACTION,
    EvictedContent,
    HostedSweeper,
    HostedSweepPreview,
    HostedSweepResult,
)
from mirrord.gc.plan import GCLimits
from mirrord.gc.retention import RetentionRule, RetentionRules
from mirrord.oci.content import RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.store.hosted_gc import HostedGCStore
from mirrord.store.layout import footprint
from tests.unit.store.cases import UBUNTU, PushTestCase, layer, manifest

APP, OTHER = RepositoryName("team/app"), RepositoryName("web")
PARTIALS_SECONDS = 100.0
GRACE_SECONDS = 60.0


def limits(*rules: RetentionRule) -> GCLimits:
    return GCLimits(
        max_size=None,
        min_free=0,
        unused_for_seconds=1000.0,
        partials_seconds=PARTIALS_SECONDS,
        retention=RetentionRules(GRACE_SECONDS, rules),
    )


class HostedSweeperTests(PushTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reconcile()
        self.sweeper = HostedSweeper(self.store.hosted_gc, self.clock)
        self.plans: list[RetentionPlan] = []
        apply_plan = HostedGCStore.apply_plan

        async def record(store: HostedGCStore, plan: RetentionPlan, grace_seconds: float) -> tuple[int, int]:
            self.plans.append(plan)
            return await apply_plan(store, plan, grace_seconds)

        self.patch(HostedGCStore, "apply_plan", record)

    def sweep(self, *rules: RetentionRule) -> HostedSweepResult:
        sweeping = Deferred.fromCoroutine(self.sweeper.sweep(limits(*rules)))
        self.clock.pump([0.0] * 100)
        return self.successResultOf(sweeping)

    def preview(self, *rules: RetentionRule) -> HostedSweepPreview:
        previewing = Deferred.fromCoroutine(self.sweeper.preview(limits(*rules)))
        self.clock.pump([0.0] * 100)
        return self.successResultOf(previewing)

    def push(self, repository: RepositoryName, count: int, *, tagged: bool = False) -> list[Manifest]:
        """Push images without layers, in one second each if they are tagged."""
        manifests = [manifest(note=str(number)) for number in range(count)]
        for number, each in enumerate(manifests):
            self.push_manifest(each, *([Tag(f"t{number}")] if tagged else []), repository=repository)
            self.pass_time(float(tagged))
        return manifests

    def left(self, repository: RepositoryName) -> int:
        return sum(map(len, self.store.hosted_gc.manifests(repository)))

    def test_rules(self) -> None:
        """A repository that no rule applies to keeps everything."""
        self.push(APP, 3)
        self.push(OTHER, 3)
        self.pass_time(99.0)
        swept = self.sweep(RetentionRule(repositories=("team/*",), untagged_for=50.0))
        self.assertEqual(HostedSweepResult(manifests=3), swept)
        self.assertEqual((0, 3), (self.left(APP), self.left(OTHER)))

    def test_portions(self) -> None:
        """A large removal is split into transactions; a manifest is removed together with its tags."""
        self.push(APP, MANIFESTS_PER_TRANSACTION + 1, tagged=True)
        self.pass_time(GRACE_SECONDS)
        swept = self.sweep(RetentionRule(older_than=50.0))
        self.assertEqual((swept.tags, swept.manifests), (MANIFESTS_PER_TRANSACTION + 1,) * 2)
        self.assertEqual(0, self.left(APP))
        self.assertEqual([MANIFESTS_PER_TRANSACTION, 1], [len(plan.manifests) for plan in self.plans])
        for plan in self.plans:
            self.assertEqual(
                {tag.digest for tag in plan.tags}, {manifest.digest for manifest in plan.manifests}
            )

    def test_blobs_uploads_and_content(self) -> None:
        """Blobs without a manifest, expired uploads and content without a link are removed."""
        alone = self.push_blob(b"alone", APP)
        shared = self.push_blob(b"shared", APP)
        self.add_manifest(UBUNTU, manifest(layer(b"shared")))
        self.store.index.add_links(UBUNTU, manifest(layer(b"shared")).references())
        self.result(self.store.uploads.begin(APP, "ann")).release()
        self.pass_time(PARTIALS_SECONDS - 1)
        young = self.result(self.store.uploads.begin(APP, "ann"))
        young.release()
        self.pass_time(1.0)

        removed = EvictedContent(1, footprint(5))
        self.assertEqual(HostedSweepResult(blobs=2, uploads=1, removed=removed), self.sweep())

        self.assertEqual((None, b"shared"), (self.read_blob(alone), self.read_blob(shared)))
        self.assertIsNotNone(self.result(self.store.uploads.find(APP, young.session)))
        self.assertEqual(0, self.store.hosted_gc.total_entries)

    def test_preview(self) -> None:
        """A preview counts and lists what would be removed, and removes nothing."""
        rule = RetentionRule(newest=1)
        self.push(APP, 3, tagged=True)
        blob = self.push_blob(b"alone", OTHER)
        self.push_blob(b"unlinked", APP)
        self.result(self.store.hosted.delete(APP, Digest.of(b"unlinked")))
        self.result(self.store.uploads.begin(APP, "ann")).release()
        self.pass_time(PARTIALS_SECONDS)

        preview = self.preview(rule)

        self.assertEqual(
            HostedSweepResult(
                tags=2, manifests=2, blobs=1, uploads=1, removed=EvictedContent(1, footprint(8))
            ),
            preview.result,
        )
        self.assertEqual([APP], [plan.repository for plan in preview.plans])
        self.assertEqual(((OTHER, blob),), preview.unreferenced)
        self.assertEqual((3, []), (self.left(APP), self.plans))
        self.assertEqual(b"unlinked", self.read_blob(Digest.of(b"unlinked")))
        swept = self.sweep(rule)
        self.assertEqual(attrs.evolve(preview.result, removed=swept.removed), swept)

    def test_stop(self) -> None:
        """A sweep that is stopped ends before its next transaction."""
        self.push(APP, 3)
        self.pass_time(GRACE_SECONDS)
        sweeping = Deferred.fromCoroutine(self.sweeper.sweep(limits(RetentionRule(untagged_for=1.0))))
        self.assertNoResult(sweeping)
        self.sweeper.stop()
        self.clock.pump([0.0] * 100)
        self.assertEqual(HostedSweepResult(), self.successResultOf(sweeping))
        self.assertEqual((3, []), (self.left(APP), self.plans))
