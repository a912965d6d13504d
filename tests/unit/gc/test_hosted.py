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
        return GCLimits(100 * MIB, 0, 1000.0, 100.0, RetentionRules(60.0, rules))

    def sweep(self, *rules: RetentionRule) -> HostedSweepResult:
        collector = self.collector()
        collector.limits = self.limits(*rules)
        return self.result(collector.sweep()).hosted

    def keep(self, repository: RepositoryName, count: int, *, tagged: bool = False) -> None:
        digests = [Digest.of(b"%d" % number) for number in range(count)]
        self.hosted_shelf.kept[repository] = (
            [HostedManifest(digest, 1, 99.0) for digest in digests],
            [HostedTag(Tag(f"t{number}"), digest, 99.0) for number, digest in enumerate(digests) if tagged],
        )

    def test_rules_are_applied_where_they_match(self) -> None:
        """A repository that no rule is for keeps everything."""
        self.keep(APP, 3)
        self.keep(WEB, 3)
        swept = self.sweep(RetentionRule(repositories=("team/*",), untagged_for=50.0))
        self.assertEqual(HostedSweepResult(manifests=3), swept)
        self.assertEqual((0, 3), tuple(len(self.hosted_shelf.kept[each][0]) for each in (APP, WEB)))

    def test_much_goes_in_portions(self) -> None:
        """Nobody's write waits for all that goes; a manifest and its tags go together."""
        self.keep(APP, hosted.SLICE_MANIFESTS + 1, tagged=True)
        swept = self.sweep(RetentionRule(older_than=50.0))
        self.assertEqual((swept.tags, swept.manifests), (hosted.SLICE_MANIFESTS + 1,) * 2)
        self.assertEqual(
            [hosted.SLICE_MANIFESTS, 1], [len(each.manifests) for each in self.hosted_shelf.portions]
        )
        for portion in self.hosted_shelf.portions:
            self.assertEqual(
                {tag.digest for tag in portion.tags}, {manifest.digest for manifest in portion.manifests}
            )

    def test_blobs_uploads_and_content(self) -> None:
        """Blobs without a manifest, uploads left alone and content without a link go."""
        self.hosted_shelf.lone = [(APP, DIGEST)]
        self.hosted_shelf.uploads = {"old": 100.0, "young": 99.0}
        self.hosted_shelf.content = [
            Entry(ContentKind.BLOB, "x", 4096, 0.0),
            Entry(ContentKind.BLOB, "y", 8192, 0.0),
        ]
        self.hosted_shelf.elsewhere = {"y"}
        self.assertEqual(HostedSweepResult(0, 0, 1, 1, EvictedContent(1, 4096)), self.sweep())
        self.assertEqual(["young"], list(self.hosted_shelf.uploads))
        self.assertEqual(["y"], [entry.name for entry in self.hosted_shelf.handed_over])

    def test_a_rehearsal_takes_nothing(self) -> None:
        """What would go is counted and named, and is all there still."""
        self.keep(APP, 3, tagged=True)
        self.hosted_shelf.lone = [(APP, DIGEST)]
        self.hosted_shelf.uploads = {"old": 100.0}
        self.hosted_shelf.content = [Entry(ContentKind.BLOB, "x", 4096, 0.0)]
        collector = self.collector()
        collector.limits = self.limits(RetentionRule(newest=1))
        rehearsal = self.result(collector.preview()).hosted
        self.assertEqual(HostedSweepResult(2, 2, 1, 1, EvictedContent(1, 4096)), rehearsal.sweep)
        self.assertEqual([APP], [thinning.repository for thinning in rehearsal.named])
        self.assertEqual(((APP, DIGEST),), rehearsal.lone)
        self.assertEqual((3, 1, 1), (len(self.hosted_shelf.kept[APP][0]), len(self.hosted_shelf.lone), 1))

    def test_a_full_disk_does_not_keep_the_mirror_from_making_room(self) -> None:
        """When hosted repositories cannot be swept, mirrored content has gone already."""
        self.fill(120)
        self.keep(APP, 1)
        self.hosted_shelf.failures["apply_plan"] = OSError(errno.ENOSPC, "full")
        collector = self.collector()
        collector.limits = self.limits(RetentionRule(untagged_for=1.0))
        collector.start()
        self.clock.pump([0.0] * 100)
        self.assertLess(self.shelf.total_bytes, 100 * MIB)
        self.flushLoggedErrors(OSError)

    def test_stopping_ends_it(self) -> None:
        """A sweep of hosted repositories ends with its slice when the collector is stopped."""
        self.keep(APP, hosted.SLICE_MANIFESTS * 3)
        collector = self.collector()
        collector.limits = self.limits(RetentionRule(untagged_for=1.0))
        collector.start()
        self.result(collector.stop())
        self.assertEqual([], self.hosted_shelf.portions)


class RoomTests(CollectorTestCase):
    def test_max_size_is_not_for_hosted_content(self) -> None:
        """What is pushed may be more than the mirror may hold, and evicts nothing while the disk has room."""
        self.fill(90)
        self.assertTrue(self.result(self.collector().make_room_for_push(500 * MIB)))
        self.assertEqual(90, len(self.names()))

    def test_mirrored_content_makes_way(self) -> None:
        """Where the disk would fall below its reserve, mirrored content goes first."""
        self.fill(90)
        collector = self.collector(min_free=100 * MIB)
        self.assertTrue(self.result(collector.make_room_for_push(850 * MIB)))
        self.assertLess(len(self.names()), 60)

    def test_the_reserve_stays(self) -> None:
        """What would leave less than the reserve even then is refused, and nothing goes for it."""
        self.fill(90)
        self.assertFalse(self.result(self.collector(min_free=100 * MIB).make_room_for_push(950 * MIB)))
        self.assertEqual(90, len(self.names()))
