"""Tests of the room that downloads reserve (mirrored/fetch.py), with a real store and a real collector."""

import errno
import os

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import FreeSpace, GCLimits
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.blobs import BlobDownloads
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.confirmation import LinkConfirmation
from mirrord.mirrored.fetch import STRIDE_BYTES
from mirrord.mirrored.size_hints import SizeHints
from mirrord.observe.disk_errors import DiskErrorLog
from mirrord.observe.metrics import Metrics
from mirrord.oci.digest import Digest
from mirrord.oci.errors import TooManyDownloads, Unavailable
from mirrord.repository import BlobReader
from tests.fakes.clock import ImmediateClock
from tests.fakes.stores import TemporaryStore
from tests.fakes.upstream import FakeUpstream
from tests.unit.mirrored.cases import UBUNTU

MIB = 1024 * 1024


class RoomCase(SynchronousTestCase):
    """A cache of 32 MiB, with a blob of 12 MiB in it."""

    def setUp(self) -> None:
        self.clock = ImmediateClock()
        self.store = TemporaryStore.of(self)
        opened = self.store.opened
        self.free = 1 << 30
        self.collector = Collector(
            store=opened.eviction,
            limits=GCLimits(
                max_size=32 * MIB, min_free=0, unused_for_seconds=1000.0, partials_seconds=1000.0
            ),
            interval_seconds=60.0,
            clock=self.clock,
            wall_clock=self.clock.seconds,
            free=lambda: FreeSpace(self.free),
            metrics=Metrics(),
            hosted=HostedSweeper(opened.hosted_gc, self.clock),
        )
        self.hub = FakeUpstream()
        writer = CacheWriter(opened.manifests, self.collector, DiskErrorLog(self.clock))
        self.downloads = BlobDownloads(
            upstreams={"docker.io": self.hub},
            files=opened.blobs,
            index=opened.index,
            writer=writer,
            confirmation=LinkConfirmation(
                upstreams={"docker.io": self.hub},
                files=opened.blobs,
                manifests=opened.manifests,
                index=opened.index,
                writer=writer,
            ),
            hints=SizeHints(),
            clock=self.clock,
            random=lambda: 1.0,
            corrupt=AgedCache(self.clock.seconds, 100),
        )
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(self.downloads.stop())))
        self.cached = self.store.add_blob(os.urandom(12 * MIB))
        self.store.clock.advance(1)

    def add(self, size: int) -> tuple[Digest, bytes]:
        content = os.urandom(size)
        return self.hub.add_blob(content), content

    def open(self, digest: Digest, client: str | None = "a") -> BlobReader:
        opening = Deferred.fromCoroutine(self.downloads.open(UBUNTU, digest, client))
        blob = self.successResultOf(opening).blob
        self.addCleanup(blob.close)
        return blob

    def send(self, size: int, which: int = -1) -> None:
        """Send the next bytes of a body, MiB by MiB."""
        for _ in range(size // MIB):
            self.hub.bodies[which].send(MIB)

    def sizes(self) -> dict[Digest, int]:
        return {download.digest: download.written for download in self.downloads.running}


class StrideTests(RoomCase):
    def test_strides(self) -> None:
        """No room is reserved before bytes arrive, and then as much as has arrived, up to one stride."""
        digest, content = self.add(20 * MIB)
        self.open(digest)
        eviction = self.store.opened.eviction
        self.assertEqual(0, eviction.reserved_bytes)
        for written in range(1, 20):
            self.send(MIB)
            self.assertEqual((12 + written) * MIB, eviction.total_bytes)
            self.assertLessEqual(eviction.reserved_bytes, min(written * MIB, STRIDE_BYTES))
            self.assertLessEqual(eviction.total_bytes + eviction.reserved_bytes, 32 * MIB)
        self.hub.bodies[0].finish()
        self.assertEqual((0, content), (eviction.reserved_bytes, self.store.blob(digest)))
        self.assertTrue(self.store.has(self.cached))

    def test_a_request_that_is_abandoned(self) -> None:
        """Without a reader a download that exceeds the room is parked, and nothing is evicted for it."""
        digest, content = self.add(28 * MIB)
        self.open(digest).close()
        self.send(28 * MIB)
        self.assertTrue(self.hub.bodies[0].is_aborted)
        self.assertEqual({}, self.sizes())
        self.assertTrue(self.store.has(self.cached))
        parked = self.store.partial(digest)
        assert parked is not None
        self.assertGreaterEqual(len(parked), 12 * MIB)
        self.assertEqual(content[: len(parked)], parked)

    def test_a_disk_that_creates_no_file(self) -> None:
        """A blob passes through if a file of its name is refused, as by a quota of inodes."""
        digest, content = self.add(MIB)
        self.store.threads.failures["open"] = OSError(errno.EDQUOT, "quota exceeded")
        blob = self.open(digest)
        self.send(MIB)
        self.assertEqual(content[: blob.size - 1], os.pread(blob.fd, blob.size - 1, 0))
        self.hub.bodies[0].finish()
        self.assertEqual({}, self.sizes())
        self.assertFalse(self.store.has(digest))

    def test_many_that_are_abandoned(self) -> None:
        """Abandoned requests for blobs that exceed the cache together evict nothing."""
        for number in range(5):
            digest, _ = self.add(24 * MIB + number)
            self.open(digest).close()
            self.send(2 * MIB)
        for which in range(5):
            self.send(20 * MIB, which)
        self.assertTrue(self.store.has(self.cached))
        self.assertLessEqual(self.store.opened.eviction.total_bytes, 32 * MIB)

    def test_a_reader_evicts(self) -> None:
        """For a download that a client reads, content is evicted when its bytes need the room."""
        digest, content = self.add(28 * MIB)
        self.open(digest)
        self.send(8 * MIB)
        self.assertTrue(self.store.has(self.cached))
        self.send(19 * MIB)
        self.assertFalse(self.store.has(self.cached))
        self.hub.bodies[0].finish()
        self.assertEqual(content, self.store.blob(digest))

    def test_the_unread_are_parked_for_room(self) -> None:
        """Downloads without a reader are parked before content is evicted for one with a reader."""
        unread, _ = self.add(8 * MIB)
        self.open(unread).close()
        self.send(MIB)
        digest, _ = self.add(24 * MIB)
        self.open(digest)
        self.send(10 * MIB)
        self.assertEqual({unread: MIB, digest: 10 * MIB}, self.sizes())
        self.send(8 * MIB)
        self.assertEqual({digest: 18 * MIB}, self.sizes())
        self.assertTrue(self.hub.bodies[0].is_aborted)

    def test_room_that_the_unread_hold(self) -> None:
        """A blob that fits only without the partial of an abandoned download is kept."""
        unread, _ = self.add(20 * MIB)
        self.open(unread).close()
        self.send(18 * MIB)
        digest, content = self.add(28 * MIB)
        self.open(digest)
        self.send(27 * MIB)
        self.hub.bodies[-1].finish()
        self.assertEqual(content, self.store.blob(digest))

    def test_background_downloads_are_parked_for_room(self) -> None:
        """A background download is parked if a client's has no room otherwise; its reader gets an error."""
        background, _ = self.add(20 * MIB)
        blob = self.open(background, None)
        self.send(18 * MIB)
        end = Deferred.fromCoroutine(blob.grown(18 * MIB))
        digest, content = self.add(20 * MIB)
        self.open(digest)
        self.failureResultOf(end, TooManyDownloads)
        self.send(19 * MIB)
        self.hub.bodies[-1].finish()
        self.assertEqual(content, self.store.blob(digest))

    def test_two_that_do_not_fit_together(self) -> None:
        """Of two downloads with readers that do not fit together one is kept, and both are served."""
        (one, first), (two, second) = self.add(20 * MIB), self.add(20 * MIB)
        blobs = [self.open(one), self.open(two)]
        for _ in range(19):
            self.send(MIB, 0)
            self.send(MIB, 1)
        for body in self.hub.bodies:
            body.finish()
        for blob, content in zip(blobs, (first, second), strict=True):
            self.assertEqual(20 * MIB, blob.readable)
            self.assertEqual(content, os.pread(blob.fd, 20 * MIB, 0))
        self.assertEqual(1, sum(self.store.has(digest) for digest in (one, two)))
        self.assertLessEqual(self.store.opened.eviction.total_bytes, 32 * MIB)
        self.assertIsNone(self.store.partial(two))

    def test_a_disk_that_fills_up(self) -> None:
        """A download for which not even the disk has room fails."""
        digest, _ = self.add(20 * MIB)
        blob = self.open(digest)
        self.send(8 * MIB)
        self.free = 0
        self.send(6 * MIB)
        self.failureResultOf(Deferred.fromCoroutine(blob.grown(blob.readable)), Unavailable)
        self.assertIsNone(self.store.partial(digest))

    def test_larger_than_the_cache(self) -> None:
        """A blob that can never fit is served, not kept, and evicts nothing."""
        digest, content = self.add(40 * MIB)
        blob = self.open(digest)
        self.send(39 * MIB)
        self.hub.bodies[0].finish()
        self.assertEqual(content, os.pread(blob.fd, 40 * MIB, 0))
        self.assertEqual((True, False), (self.store.has(self.cached), self.store.has(digest)))
