import attrs

from mirrord.admin.sweep import Sweeper
from mirrord.admin.sweep_report import HostedSweepReport, HostedVictim, SweepReport, Victim
from mirrord.oci.content import ContentKind, Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag
from tests.unit.admin.case import OperateCase

APP = RepositoryName("team/app")
A, B, C = (Digest.of(body) for body in (b"a", b"b", b"c"))


@attrs.frozen
class Evicted:
    count: int
    size: int


@attrs.frozen
class HostedSweep:
    tags: int = 1
    manifests: int = 2
    blobs: int = 3
    uploads: int = 4
    removed: Evicted = Evicted(5, 50)


@attrs.frozen
class HostedRehearsal:
    sweep: HostedSweep
    named: tuple[RetentionPlan, ...]
    lone: tuple[tuple[RepositoryName, Digest], ...]


@attrs.frozen
class Done:
    evicted: Evicted
    hosted: HostedSweep = HostedSweep()


@attrs.frozen
class Rehearsed:
    evicted: Evicted
    named: tuple[Entry, ...]
    hosted: HostedRehearsal


@attrs.define
class FakeCollector:
    sweeps: int = 0
    lone: int = 1

    async def sweep(self) -> Done:
        self.sweeps += 1
        return Done(Evicted(1, 10))

    async def preview(self) -> Rehearsed:
        old, sig = (HostedManifest(digest, 1, 9.0) for digest in (A, B))
        tags = (HostedTag(Tag("1"), A, 9.0), HostedTag(Tag("sig"), B, 9.0))
        named = RetentionPlan(APP, tags, (old, sig), {Tag("1"): 2, A: 2})
        hosted = HostedRehearsal(HostedSweep(), (named,), ((APP, C),) * self.lone)
        return Rehearsed(Evicted(2, 20), (Entry(ContentKind.BLOB, "x", 5, 7.0),), hosted)


class SweepingTests(OperateCase):
    def test_sweep(self) -> None:
        """A sweep is carried out; a dry one only names what would go."""
        collector = FakeCollector()
        sweeper = Sweeper(collector)

        dry = self.result(sweeper.sweep(is_dry_run=True))
        self.assertEqual((True, 2, 20), (dry.is_dry_run, dry.entries, dry.bytes))
        self.assertEqual((Victim(ContentKind.BLOB, "x", 5, 7.0),), dry.victims)
        self.assertEqual(0, collector.sweeps)
        swept = SweepReport(False, 1, 10, (), HostedSweepReport(1, 2, 3, 4, 5, 50))
        self.assertEqual(swept, self.result(sweeper.sweep(is_dry_run=False)))
        self.assertEqual(1, collector.sweeps)

    def test_hosted(self) -> None:
        """What would go of hosted repositories is named with the rule that decides, or else the reason."""
        hosted = self.result(Sweeper(FakeCollector()).sweep(is_dry_run=True)).hosted
        self.assertEqual((1, 2, 3, 4, 5, 50), attrs.astuple(hosted)[:-1])
        self.assertEqual(
            (
                HostedVictim("tag", APP, "1", "hosted.keep[2]"),
                HostedVictim("tag", APP, "sig", "its manifest goes"),
                HostedVictim("manifest", APP, str(A), "hosted.keep[2]"),
                HostedVictim("manifest", APP, str(B), "it belongs to what goes"),
                HostedVictim("blob", APP, str(C), "no manifest names it"),
            ),
            hosted.victims,
        )

    def test_many(self) -> None:
        """No more than a thousand are named."""
        hosted = self.result(Sweeper(FakeCollector(lone=2000)).sweep(is_dry_run=True)).hosted
        self.assertEqual(1000, len(hosted.victims))
