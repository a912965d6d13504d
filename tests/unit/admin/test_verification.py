from collections.abc import AsyncGenerator
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, succeed

from mirrord.admin.results import (
    ContentFetched,
    ContentLost,
    CorruptFound,
    MissingFound,
    VerificationDone,
    VerificationProgress,
)
from mirrord.admin.verification import Event, Verifier
from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Conflict, UpstreamTimeout
from mirrord.oci.names import RepositoryName
from tests.fakes.operating import FakeAudit, FakeExamination
from tests.unit.admin.case import DEBIAN, QUAY, UBUNTU, OperateCase, image, layer

ROTTEN = layer(b"rotten")


class VerificationTests(OperateCase):
    def setUp(self) -> None:
        super().setUp()
        self.audit = FakeAudit()
        self.comparing: Deferred[None] = succeed(None)
        self.turn = DeferredLock()
        self.is_busy = False

    def verify(self) -> AsyncGenerator[Event, None]:
        audit: Any = self.audit
        browser: Any = self.shelves
        hosted: Any = self.hosted
        verifier = Verifier(
            audit=audit,
            reconciled=self.reconciled,
            browser=browser,
            hosted=hosted,
            router=self.router,
            is_busy=lambda: self.is_busy,
            lock=self.turn,
            clock=self.clock,
        )
        return verifier.verify()

    async def reconciled(self) -> None:
        await self.comparing

    def add(
        self, digest: Digest, *slices: int | None, kind: ContentKind = ContentKind.BLOB, is_whole: bool = True
    ) -> FakeExamination:
        """Content at rest, of 100 bytes on the disk."""
        examination = FakeExamination(list(slices), is_whole)
        self.audit.entries[Entry(kind=kind, name=str(digest), size=100, idle_seconds=0.0)] = examination
        return examination

    def add_slow(self, *slices: int) -> None:
        """Content of which each slice takes two seconds."""
        clock = self.clock

        class Slow(FakeExamination):
            async def hash_slice(self) -> int:
                clock.rightNow += 2.0
                return await FakeExamination.hash_slice(self)

        self.audit.entries[
            Entry(kind=ContentKind.BLOB, name=str(Digest.of(b"slow")), size=100, idle_seconds=0.0)
        ] = Slow(list(slices), True)

    def rot(self, *slices: int | None, kind: ContentKind = ContentKind.BLOB) -> FakeExamination:
        return self.add(ROTTEN.digest, *slices, kind=kind, is_whole=False)

    def told(self) -> list[Event]:
        return [event for event in self.all_of(self.verify()) if not isinstance(event, VerificationProgress)]

    def test_all_well(self) -> None:
        """Everything is hashed, and the end says how much that was."""
        examinations = [self.add(Digest.of(b"%d" % number), 60, 30) for number in range(3)]

        events = self.all_of(self.verify())

        self.assertEqual(VerificationProgress(bytes=0, of_bytes=300, entries=0, of_entries=3), events[0])
        self.assertEqual(
            [
                VerificationProgress(bytes=300, of_bytes=300, entries=3, of_entries=3),
                VerificationDone(entries=3, bytes=300, corrupt=0, fetched=0, seconds=0.0),
            ],
            events[-2:],
        )
        self.assertTrue(all(one.is_closed and not one.is_set_aside for one in examinations))

    def test_corrupt(self) -> None:
        """What is damaged, or cannot be read, is set aside and fetched through one that may read it."""
        self.upstream.add(image(ROTTEN))
        self.shelves.links[UBUNTU, ROTTEN.digest] = ROTTEN
        for slices in ((60,), (60, None), (None,)):
            examination = self.rot(*slices)

            events = self.told()

            self.assertEqual(
                [CorruptFound(ROTTEN.digest, ContentKind.BLOB, ("ubuntu",)), ContentFetched(ROTTEN.digest)],
                events[:2],
            )
            self.assertEqual(
                VerificationDone(entries=1, bytes=100, corrupt=1, fetched=1, seconds=0.0), events[-1]
            )
            self.assertTrue(examination.is_set_aside)
            self.assertTrue(examination.is_closed)

    def test_manifest(self) -> None:
        """A manifest is fetched as such."""
        self.rot(kind=ContentKind.MANIFEST)
        self.shelves.links[UBUNTU, ROTTEN.digest] = ROTTEN
        self.upstream.manifests[ROTTEN.digest] = image()

        self.assertIn(ContentFetched(ROTTEN.digest), self.told())

    def test_the_next_source(self) -> None:
        """Where one repository's upstream fails, the next one that may read it is asked."""
        self.rot()
        self.upstream.add(image(ROTTEN))
        for source in (UBUNTU, QUAY):
            self.shelves.links[source, ROTTEN.digest] = ROTTEN
        self.upstream.refusals[UBUNTU] = UpstreamTimeout("silent")

        self.assertIn(ContentFetched(ROTTEN.digest), self.told())
        self.assertEqual([UBUNTU, QUAY], [source for source, _ in self.upstream.asked])

    def test_lost(self) -> None:
        """What nobody gives is lost, and the reason is told; the rest is verified all the same."""
        self.rot()
        self.add(Digest.of(b"well"), 50)
        self.assertIn(ContentLost(ROTTEN.digest, "no mirrored repository is linked to it"), self.told())

        self.rot()
        self.shelves.links[DEBIAN, ROTTEN.digest] = ROTTEN
        self.upstream.refusals[DEBIAN] = UpstreamTimeout("silent")
        events = self.told()
        self.assertIn(ContentLost(ROTTEN.digest, "silent"), events)
        self.assertEqual(
            VerificationDone(entries=2, bytes=200, corrupt=1, fetched=0, seconds=0.0), events[-1]
        )

    def test_hosted(self) -> None:
        """What a hosted repository holds is fetched where a mirrored one has it too; else it is lost."""
        app = RepositoryName("team/app")
        self.hosted.push(app, image(ROTTEN))
        self.hosted.gone.append((ContentKind.BLOB, ROTTEN.digest))
        self.rot()
        corrupt = CorruptFound(ROTTEN.digest, ContentKind.BLOB, ("team/app",))
        lost = ContentLost(ROTTEN.digest, "no mirrored repository is linked to it")
        self.assertEqual(
            [corrupt, lost, VerificationDone(entries=1, bytes=100, corrupt=1, fetched=0, seconds=0.0)],
            self.told(),
        )

        self.rot()
        self.shelves.links[UBUNTU, ROTTEN.digest] = ROTTEN
        self.upstream.add(image(ROTTEN))
        self.assertEqual(
            CorruptFound(ROTTEN.digest, ContentKind.BLOB, ("ubuntu", "team/app")), self.told()[0]
        )
        self.assertIn(ContentFetched(ROTTEN.digest), self.told())

    def test_missing(self) -> None:
        """What hosted repositories lack is told once, and fetched if it can be."""
        one = image(ROTTEN)
        for name in ("team/app", "team/web"):
            self.hosted.push(RepositoryName(name), one)
        self.hosted.gone = [(ContentKind.BLOB, ROTTEN.digest), (ContentKind.MANIFEST, one.digest)]
        self.shelves.links[UBUNTU, ROTTEN.digest] = ROTTEN
        self.upstream.add(image(ROTTEN))
        self.upstream.manifests.clear()

        holders = ("team/app", "team/web")
        self.assertCountEqual(
            [
                MissingFound(one.digest, ContentKind.MANIFEST, holders),
                ContentLost(one.digest, "no mirrored repository is linked to it"),
                MissingFound(ROTTEN.digest, ContentKind.BLOB, ("ubuntu", *holders)),
                ContentFetched(ROTTEN.digest),
                VerificationDone(entries=0, bytes=0, corrupt=0, fetched=1, seconds=0.0, missing=2),
            ],
            self.told(),
        )

    def test_after_a_start(self) -> None:
        """Nothing is called missing before it is known what is on the disk."""
        self.comparing = Deferred()
        one = image()
        self.hosted.push(RepositoryName("team/app"), one)
        self.hosted.gone = [(ContentKind.MANIFEST, one.digest)]
        heard, ended = self.listen(self.verify())
        self.hosted.gone.clear()
        self.comparing.callback(None)
        self.clock.pump([0.0] * 20)
        self.successResultOf(ended)
        self.assertEqual(VerificationDone(entries=0, bytes=0, corrupt=0, fetched=0, seconds=0.0), heard[-1])

    def test_gone(self) -> None:
        """What has gone or changed meanwhile is not called corrupt."""
        self.rot().is_there = False
        self.audit.entries[
            Entry(kind=ContentKind.BLOB, name=str(Digest.of(b"gone")), size=100, idle_seconds=0.0)
        ] = None

        self.assertEqual(
            [VerificationDone(entries=1, bytes=100, corrupt=0, fetched=0, seconds=0.0)], self.told()
        )

    def test_one_at_a_time(self) -> None:
        """A second verification is refused while one runs, and let when that one was left."""
        self.is_busy = True
        self.add_slow(50, 50)
        _, first = self.listen(self.verify())
        self.assertNoResult(first)

        _, second = self.listen(self.verify())
        self.failureResultOf(second, Conflict)

        first.cancel()
        self.failureResultOf(first)
        self.assertFalse(self.turn.locked)
        self.assertTrue(all(one is not None and one.is_closed for one in self.audit.entries.values()))

    def test_gentle(self) -> None:
        """While clients are served it rests as long as it has worked; else it does not rest."""
        self.add_slow(50, 50)
        self.is_busy = True
        _, ended = self.listen(self.verify())
        self.assertNoResult(ended)
        for seconds in (1.9, 0.1, 1.9):
            self.clock.advance(seconds)
            self.assertNoResult(ended)
        self.clock.advance(0.1)
        self.clock.pump([0.0] * 5)
        self.successResultOf(ended)
