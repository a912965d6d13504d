import errno

from mirrord.gc import hosted
from mirrord.gc.plan import GCLimits
from mirrord.gc.results import EvictedContent, HostedSweepResult
from mirrord.gc.retention import RetentionRule, RetentionRules
from mirrord.oci.content import ContentKind, Entry, HostedManifest, HostedTag
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag
from tests.unit.gc.cases import DIGEST, MIB, CollectorTestCase

APP, WEB = RepositoryName("team/app"), RepositoryName("web")


class HostedSweepTests(CollectorTestCase):
    def limits(self, *rules: RetentionRule) -> GCLimits:
        return GCLimits(
            max_size=100 * MIB,
            min_free=0,
            unused_for_seconds=1000.0,
            partials_seconds=100.0,
            retention=RetentionRules(60.0, rules),
        )

    def sweep(self, *rules: RetentionRule) -> HostedSweepResult:
        collector = self.collector()
        collector.limits = self.limits(*rules)
        return self.result(collector.sweep()).hosted

    def add(self, repository: RepositoryName, count: int, *, tagged: bool = False) -> None:
        digests = [Digest.of(b"%d" % number) for number in range(count)]
        self.hosted_store.contents[repository] = (
            [HostedManifest(digest=digest, size=1, idle_seconds=99.0) for digest in digests],
            [HostedTag(Tag(f"t{number}"), digest, 99.0) for number, digest in enumerate(digests) if tagged],
        )

    def test_rules(self) -> None:
        """A repository that no rule applies to keeps everything."""
        self.add(APP, 3)
        self.add(WEB, 3)
        swept = self.sweep(RetentionRule(repositories=("team/*",), untagged_for=50.0))
        self.assertEqual(HostedSweepResult(manifests=3), swept)
        self.assertEqual((0, 3), tuple(len(self.hosted_store.contents[each][0]) for each in (APP, WEB)))

    def test_portions(self) -> None:
        """A large removal is split into transactions; a manifest is removed together with its tags."""
        self.add(APP, hosted.MANIFESTS_PER_TRANSACTION + 1, tagged=True)
        swept = self.sweep(RetentionRule(older_than=50.0))
        self.assertEqual((swept.tags, swept.manifests), (hosted.MANIFESTS_PER_TRANSACTION + 1,) * 2)
        self.assertEqual(
            [hosted.MANIFESTS_PER_TRANSACTION, 1],
            [len(each.manifests) for each in self.hosted_store.portions],
        )
        for portion in self.hosted_store.portions:
            self.assertEqual(
                {tag.digest for tag in portion.tags}, {manifest.digest for manifest in portion.manifests}
            )

    def test_blobs_uploads_and_content(self) -> None:
        """Blobs without a manifest, expired uploads and content without a link are removed."""
        self.hosted_store.unreferenced_blobs = [(APP, DIGEST)]
        self.hosted_store.uploads = {"old": 100.0, "young": 99.0}
        self.hosted_store.content = [
            Entry(kind=ContentKind.BLOB, name="x", size=4096, idle_seconds=0.0),
            Entry(kind=ContentKind.BLOB, name="y", size=8192, idle_seconds=0.0),
        ]
        self.hosted_store.elsewhere = {"y"}
        self.assertEqual(HostedSweepResult(blobs=1, uploads=1, removed=EvictedContent(1, 4096)), self.sweep())
        self.assertEqual(["young"], list(self.hosted_store.uploads))
        self.assertEqual(["y"], [entry.name for entry in self.hosted_store.marked])

    def test_preview(self) -> None:
        """A preview counts and lists what would be removed, and removes nothing."""
        self.add(APP, 3, tagged=True)
        self.hosted_store.unreferenced_blobs = [(APP, DIGEST)]
        self.hosted_store.uploads = {"old": 100.0}
        self.hosted_store.content = [Entry(kind=ContentKind.BLOB, name="x", size=4096, idle_seconds=0.0)]
        collector = self.collector()
        collector.limits = self.limits(RetentionRule(newest=1))
        preview = self.result(collector.preview()).hosted
        removed = EvictedContent(1, 4096)
        self.assertEqual(
            HostedSweepResult(tags=2, manifests=2, blobs=1, uploads=1, removed=removed), preview.result
        )
        self.assertEqual([APP], [plan.repository for plan in preview.plans])
        self.assertEqual(((APP, DIGEST),), preview.unreferenced)
        self.assertEqual(3, len(self.hosted_store.contents[APP][0]))
        self.assertEqual([(APP, DIGEST)], self.hosted_store.unreferenced_blobs)
        self.assertEqual((["old"], 1), (list(self.hosted_store.uploads), len(self.hosted_store.content)))

    def test_full_disk(self) -> None:
        """If hosted repositories cannot be swept, mirrored content has been evicted already."""
        self.fill(120)
        self.add(APP, 1)
        self.hosted_store.failures["apply_plan"] = OSError(errno.ENOSPC, "full")
        collector = self.collector()
        collector.limits = self.limits(RetentionRule(untagged_for=1.0))
        collector.start()
        self.clock.pump([0.0] * 100)
        self.assertLess(self.store.total_bytes, 100 * MIB)
        self.flushLoggedErrors(OSError)

    def test_stop(self) -> None:
        """A sweep of hosted repositories ends after its slice when the collector is stopped."""
        self.add(APP, hosted.MANIFESTS_PER_TRANSACTION * 3)
        collector = self.collector()
        collector.limits = self.limits(RetentionRule(untagged_for=1.0))
        collector.start()
        self.result(collector.stop())
        self.assertEqual([], self.hosted_store.portions)


class RoomTests(CollectorTestCase):
    def test_max_size(self) -> None:
        """A push may exceed `max_size`, and evicts nothing while the disk has room."""
        self.fill(90)
        self.assertTrue(self.result(self.collector().make_room_for_push(500 * MIB)))
        self.assertEqual(90, len(self.names()))

    def test_eviction(self) -> None:
        """If less than `min_free` would be left, mirrored content is evicted first."""
        self.fill(90)
        collector = self.collector(min_free=100 * MIB)
        self.assertTrue(self.result(collector.make_room_for_push(850 * MIB)))
        self.assertLess(len(self.names()), 60)

    def test_min_free(self) -> None:
        """A push that would leave less than `min_free` even then is rejected, and nothing is evicted."""
        self.fill(90)
        self.assertFalse(self.result(self.collector(min_free=100 * MIB).make_room_for_push(950 * MIB)))
        self.assertEqual(90, len(self.names()))
