"""Tests of mirrord/admin/verification.py."""

from collections.abc import AsyncGenerator
from itertools import count

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
from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import CircuitOpen, Conflict
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryKey
from mirrord.store.audit import SLICE_BYTES
from mirrord.store.layout import footprint
from tests.fakes.stores import content_path
from tests.unit.admin.cases import APP, DEBIAN, EMPTY, QUAY, UBUNTU, WEB, OperatorCase, image, layer

CONTENT = b"rotten"
ROTTEN = layer(CONTENT)
BLOCK = footprint(1)


class VerifierTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.comparing: Deferred[None] = succeed(None)
        self.lock = DeferredLock()
        self.is_busy = False
        for upstream in self.repositories.upstreams.values():
            upstream.sending_clock = self.clock

    def verify(self) -> AsyncGenerator[Event, None]:
        opened = self.store.opened
        verifier = Verifier(
            audit=opened.audit,
            reconciled=self.reconciled,
            browser=opened.browser,
            hosted=opened.hosted,
            router=self.router,
            is_busy=lambda: self.is_busy,
            lock=self.lock,
            clock=self.clock,
        )
        return verifier.verify()

    async def reconciled(self) -> None:
        await self.comparing

    def rot(self, key: RepositoryKey = UBUNTU) -> None:
        """Cache a blob that is damaged on the disk."""
        self.store.cache(key, CONTENT)
        self.store.damage(ContentKind.BLOB, ROTTEN.digest)

    def unlinked(self) -> None:
        """Remove the links of the damaged blob."""
        for key in (UBUNTU, DEBIAN, QUAY):
            self.store.opened.browser.unlink(key, ROTTEN.digest)

    def events(self) -> list[Event]:
        """Verify, and return what is reported besides the progress."""
        events = self.all_of(self.verify())
        return [event for event in events if not isinstance(event, VerificationProgress)]

    def done(
        self, entries: int, size: int, *, corrupt: int = 0, fetched: int = 0, missing: int = 0
    ) -> VerificationDone:
        return VerificationDone(
            entries=entries,
            bytes=size,
            corrupt=corrupt,
            fetched=fetched,
            seconds=0.0,
            missing=missing,
        )

    def test_whole(self) -> None:
        """Everything is hashed, and reported in the end."""
        digests = [self.store.add_blob(b"%d" % number) for number in range(3)]
        self.store.flush()

        events = self.all_of(self.verify())

        size = 3 * BLOCK
        self.assertEqual(VerificationProgress(bytes=0, of_bytes=size, entries=0, of_entries=3), events[0])
        self.assertEqual(
            [VerificationProgress(bytes=size, of_bytes=size, entries=3, of_entries=3), self.done(3, size)],
            events[-2:],
        )
        self.assertEqual(3, self.store.threads.called.count("_hash_cold"))
        self.assertTrue(all(map(self.store.has, digests)))

    def test_corrupt(self) -> None:
        """Damaged content is set aside and fetched through a repository that can read it."""
        self.hub.add_blob(CONTENT)
        self.rot()
        self.assertEqual(
            [
                CorruptFound(ROTTEN.digest, ContentKind.BLOB, ("ubuntu",)),
                ContentFetched(ROTTEN.digest),
                self.done(1, BLOCK, corrupt=1, fetched=1),
            ],
            self.events(),
        )
        self.assertEqual(CONTENT, self.store.blob(ROTTEN.digest))
        self.assertTrue(self.store.layout.broken(ContentKind.BLOB, ROTTEN.digest).exists())

    def test_unreadable(self) -> None:
        """A file that cannot be read, or does not exist, counts as damaged."""
        self.hub.add_blob(CONTENT)
        self.store.cache(UBUNTU, CONTENT)
        for is_deleted in (False, True):
            if is_deleted:
                content_path(self.store.layout, ContentKind.BLOB, ROTTEN.digest).unlink()
            else:
                self.store.threads.failures["_hash_cold"] = OSError("cannot be read")
            self.assertEqual(
                [
                    CorruptFound(ROTTEN.digest, ContentKind.BLOB, ("ubuntu",)),
                    ContentFetched(ROTTEN.digest),
                    self.done(1, BLOCK, corrupt=1, fetched=1),
                ],
                self.events(),
            )
            self.assertEqual(CONTENT, self.store.blob(ROTTEN.digest))

    def test_manifest(self) -> None:
        """A damaged manifest is fetched as a manifest."""
        one = image()
        self.hub.add(one)
        self.store.cache(UBUNTU, one)
        self.store.damage(ContentKind.MANIFEST, one.digest)

        self.assertIn(ContentFetched(one.digest), self.events())
        self.assertEqual([("GET manifest", str(one.digest))], [(r.method, r.name) for r in self.hub.requests])

    def test_next_repository(self) -> None:
        """If the upstream of one repository fails, the next repository that can read the content is tried."""
        self.rot()
        self.store.link(QUAY, Descriptor("", ROTTEN.digest, ROTTEN.size))
        self.hub.failing = CircuitOpen("silent", retry_after_seconds=60.0)
        self.repositories.upstreams["quay.io"].add_blob(CONTENT)

        self.assertIn(ContentFetched(ROTTEN.digest), self.events())
        self.assertIn("library/ubuntu", [request.repository for request in self.hub.requests])

    def test_lost(self) -> None:
        """Content that no upstream has is reported as lost, with the reason; the rest is verified too."""
        self.rot()
        self.unlinked()
        self.store.add_blob(b"whole")
        self.assertIn(ContentLost(ROTTEN.digest, "no mirrored repository is linked to it"), self.events())

        self.rot(DEBIAN)
        self.hub.failing = CircuitOpen("silent", retry_after_seconds=60.0)
        events = self.events()
        self.assertIn(ContentLost(ROTTEN.digest, "silent"), events)
        self.assertEqual(self.done(2, 2 * BLOCK, corrupt=1), events[-1])

    def push(self) -> Manifest:
        """Push an image with the damaged blob."""
        one = image(ROTTEN)
        self.repositories.push(APP, EMPTY, CONTENT, one)
        return one

    def test_hosted(self) -> None:
        """Damaged content of a hosted repository is fetched if a mirrored one links it; else it is lost."""
        self.push()
        self.store.damage(ContentKind.BLOB, ROTTEN.digest)
        self.assertEqual(
            [
                CorruptFound(ROTTEN.digest, ContentKind.BLOB, ("team/app",)),
                ContentLost(ROTTEN.digest, "no mirrored repository is linked to it"),
                self.done(3, 3 * BLOCK, corrupt=1),
            ],
            self.events(),
        )

        self.hub.add_blob(CONTENT)
        self.rot()
        self.assertEqual(
            [
                CorruptFound(ROTTEN.digest, ContentKind.BLOB, ("ubuntu", "team/app")),
                ContentFetched(ROTTEN.digest),
                self.done(3, 3 * BLOCK, corrupt=1, fetched=1),
            ],
            self.events(),
        )

    def test_missing(self) -> None:
        """Content that is missing in hosted repositories is reported once, and fetched if possible."""
        one = self.push()
        self.repositories.push(WEB, EMPTY, CONTENT, one)
        self.store.link(UBUNTU, ROTTEN)
        self.store.flush()
        self.store.lose(ContentKind.BLOB, ROTTEN.digest)
        self.store.lose(ContentKind.MANIFEST, one.digest)
        self.hub.add_blob(CONTENT)

        repositories = ("team/app", "team/web")
        self.assertCountEqual(
            [
                MissingFound(one.digest, ContentKind.MANIFEST, repositories),
                ContentLost(one.digest, "no mirrored repository is linked to it"),
                MissingFound(ROTTEN.digest, ContentKind.BLOB, ("ubuntu", *repositories)),
                ContentFetched(ROTTEN.digest),
                self.done(1, BLOCK, fetched=1, missing=2),
            ],
            self.events(),
        )

    def test_after_a_start(self) -> None:
        """Nothing is reported as missing before the index and the files have been compared."""
        self.comparing = Deferred()
        self.push()
        self.store.lose(ContentKind.BLOB, ROTTEN.digest)
        events, ended = self.listen(self.verify())
        self.store.add_blob(CONTENT)
        self.comparing.callback(None)
        self.clock.pump([0.0] * 20)
        self.successResultOf(ended)
        self.assertEqual(self.done(3, 3 * BLOCK), events[-1])

    def test_replaced_meanwhile(self) -> None:
        """Content that was removed or replaced since it was listed is not called corrupt."""
        later = next(content for content in map(bytes, count(1)) if Digest.of(content) > ROTTEN.digest)
        self.rot()
        self.store.add_blob(later)
        events, ended = self.listen_slowly()
        self.store.threads.release()
        self.result(self.store.opened.browser.remove([Digest.of(later), ROTTEN.digest]))
        self.store.add_blob(CONTENT)
        self.clock.pump([0.0] * 20)
        self.successResultOf(ended)
        self.assertEqual({VerificationProgress, VerificationDone}, {type(event) for event in events})
        self.assertTrue(self.store.has(ROTTEN.digest))

    def listen_slowly(self) -> tuple[list[Event], Deferred[None]]:
        """Begin to verify on a disk whose slices wait for `slice`."""
        self.store.flush()
        events: list[Event] = []

        async def receive() -> None:
            async for event in self.verify():
                if not events:
                    self.store.threads.hold()
                events.append(event)

        return events, self.begin(receive())

    def slice(self, seconds: float = 0.0) -> None:
        """Let the slice that is being hashed end after some time; the next one waits again."""
        self.clock.advance(seconds)
        self.store.threads.release()
        self.store.threads.hold()
        self.clock.pump([0.0] * 5)

    def test_slices(self) -> None:
        """The progress of a large file is reported; one that cannot be read to its end counts as damaged."""
        large = bytes(SLICE_BYTES + 1000)
        self.hub.add_blob(large)
        self.store.cache(UBUNTU, large)
        size = footprint(len(large))
        events, ended = self.listen_slowly()
        self.slice(2.0)
        progress = VerificationProgress(bytes=SLICE_BYTES, of_bytes=size, entries=0, of_entries=1)
        self.assertEqual(progress, events[-1])
        self.store.threads.failures["_hash_cold"] = OSError("cannot be read")
        self.store.threads.release()
        self.clock.pump([0.0] * 20)

        self.successResultOf(ended)
        self.assertIn(CorruptFound(Digest.of(large), ContentKind.BLOB, ("ubuntu",)), events)
        self.assertEqual(VerificationProgress(bytes=size, of_bytes=size, entries=1, of_entries=1), events[-2])

    def test_one_at_a_time(self) -> None:
        """A second verification is rejected while one is running; a cancelled one releases its lock."""
        self.rot()
        _, first = self.listen_slowly()
        self.assertNoResult(first)

        _, second = self.listen(self.verify())
        self.failureResultOf(second, Conflict)

        first.cancel()
        self.failureResultOf(first)
        self.assertFalse(self.lock.locked)
        self.store.threads.release()

    def test_pauses(self) -> None:
        """While clients are being served, it pauses after each slice for as long as the slice took."""
        self.store.add_blob(b"one")
        self.store.add_blob(b"two")
        self.is_busy = True
        _, ended = self.listen_slowly()
        self.slice(2.0)
        hashed = self.store.threads.called.count
        for seconds in (1.9, 0.1):
            self.assertEqual(1, hashed("_hash_cold"))
            self.clock.advance(seconds)
            self.clock.pump([0.0] * 5)
        self.assertEqual(2, hashed("_hash_cold"))
        self.slice(2.0)
        self.clock.advance(1.9)
        self.assertNoResult(ended)
        self.clock.advance(0.1)
        self.clock.pump([0.0] * 5)
        self.successResultOf(ended)

    def test_no_pauses(self) -> None:
        """While no clients are being served, it does not pause."""
        self.store.add_blob(b"one")
        self.store.add_blob(b"two")
        _, ended = self.listen_slowly()
        for _ in range(2):
            self.assertNoResult(ended)
            self.slice(2.0)
        self.successResultOf(ended)
