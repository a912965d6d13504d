"""Tests of mirrord/pull/blobs.py, fetch.py and readers.py."""

import errno
import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import Descriptor
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    BlobUnknown,
    CircuitOpen,
    RegistryError,
    Unavailable,
    UpstreamCorrupt,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from mirrord.oci.names import Repository, Source
from mirrord.pull.answers import PulledBlob, PulledSize
from mirrord.pull.blobs import BlobPuller
from mirrord.pull.keeping import Keeper
from mirrord.pull.readers import FAR_BYTES
from mirrord.pull.remembered import Remembered
from tests.fakes.store import FakeRoom, MemoryBlobs, MemoryIndex, MemoryManifests
from tests.fakes.upstream import FakeUpstream

UBUNTU = Source("docker.io", Repository("library/ubuntu"))
OTHER = Source("docker.io", Repository("team/other"))
CONTENT = bytes(range(200))


class PullBlobs(SynchronousTestCase):
    """A puller between a fake upstream, whose bodies the test lets come, and a fake store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.digest = self.upstream.has_blob(CONTENT)
        self.index = MemoryIndex()
        self.blobs = MemoryBlobs()
        self.room = FakeRoom()
        self.puller = BlobPuller(
            {"docker.io": self.upstream},
            self.blobs,
            self.index,
            Keeper(MemoryManifests(self.index), self.room),
            self.clock,
            lambda: 1.0,
            Remembered(self.clock.seconds, 100),
        )
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """End what still runs; what hangs is answered first."""
        stopping = Deferred.fromCoroutine(self.puller.stop())
        self.upstream.failing = self.upstream.failing or UpstreamRefused("down")
        self.upstream.answers()
        self.clock.pump([10] * 10)
        self.successResultOf(stopping)

    def begin_open(self, source: Source = UBUNTU, digest: Digest | None = None) -> Deferred[PulledBlob]:
        return Deferred.fromCoroutine(self.puller.open(source, digest or self.digest))

    def open(self, source: Source = UBUNTU, digest: Digest | None = None) -> PulledBlob:
        blob = self.successResultOf(self.begin_open(source, digest))
        self.addCleanup(blob.close)
        return blob

    def failure(self, expected: type[RegistryError], source: Source = UBUNTU) -> RegistryError:
        error = self.failureResultOf(self.begin_open(source), expected).value
        assert isinstance(error, RegistryError)
        return error

    def head(self, source: Source = UBUNTU) -> PulledSize:
        return self.successResultOf(Deferred.fromCoroutine(self.puller.head(source, self.digest)))

    def grown(self, blob: PulledBlob, beyond: int) -> Deferred[int]:
        return Deferred.fromCoroutine(blob.grown(beyond))

    def finish(self, which: int = -1) -> None:
        self.upstream.bodies[which].ends()

    def link(self, source: Source, size: int = len(CONTENT)) -> None:
        self.index.add_links(source, [Descriptor("layer", self.digest, size)])


class OneDownloadTests(PullBlobs):
    """One upstream download a blob, whoever wants it."""

    def test_miss_and_hit(self) -> None:
        """The first pull downloads and stores, the next one is local."""
        self.assertEqual("mirrord; fwd=uri-miss; stored", str(self.open().outcome))
        self.finish()

        self.assertEqual({self.digest: CONTENT}, self.blobs.committed)
        self.assertEqual("mirrord; hit", str(self.open().outcome))
        self.assertEqual(1, self.upstream.count("GET blob"))

    def test_headers_before_bytes(self) -> None:
        """A client can answer its headers as soon as the size is known, before any byte has come."""
        self.assertEqual((200, 0), (self.open().size, self.open().readable))

    def test_many_clients(self) -> None:
        """Sixteen clients, some of them late, cost one GET, and all can read all of it."""
        blobs = [self.open() for _ in range(8)]
        self.upstream.bodies[0].sends(100)
        blobs += [self.open() for _ in range(8)]
        self.finish()

        self.assertEqual(1, self.upstream.count("GET blob"))
        self.assertEqual({200}, {blob.readable for blob in blobs})
        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(blobs[-1].outcome))

    def test_followers_read_what_is_written(self) -> None:
        """A client may read what is written, but not the last byte before all is verified."""
        blob = self.open()
        more = self.grown(blob, 0)
        self.upstream.bodies[0].sends(150)
        self.assertEqual(150, self.successResultOf(more))
        self.upstream.bodies[0].sends(50)

        self.assertEqual(199, blob.readable)
        self.finish()
        self.assertEqual(200, blob.readable)

    def test_the_only_client_leaves(self) -> None:
        """A download whose clients have gone goes on, and the next client costs nothing."""
        waiting = self.grown(self.open(), 0)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.finish()

        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_a_client_leaves_before_the_headers(self) -> None:
        """A download whose first client left before the size was known goes on."""
        self.upstream.is_hanging = True
        waiting = self.begin_open()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.upstream.answers()
        self.finish()

        self.assertIn(self.digest, self.blobs.committed)

    def test_empty_blob(self) -> None:
        """An empty blob is answered when it is verified."""
        digest = self.upstream.has_blob(b"")
        waiting = self.begin_open(digest=digest)
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(0, self.successResultOf(waiting).size)

    def test_upstream_without_sizes(self) -> None:
        """Where neither the upstream nor a manifest tells the size, the answer waits for all of the blob."""
        self.upstream.tells_sizes = False
        waiting = self.begin_open()
        self.upstream.bodies[0].sends(200)
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(200, self.successResultOf(waiting).size)

    def test_size_from_the_manifest(self) -> None:
        """Where a manifest tells the size, the answer does not wait for an upstream that does not."""
        self.link(UBUNTU)
        self.upstream.tells_sizes = False

        self.assertEqual(200, self.open().size)

    def test_stop(self) -> None:
        """When the daemon stops, running downloads are parked."""
        blob = self.open()
        self.upstream.bodies[0].sends(120)
        stopping = Deferred.fromCoroutine(self.puller.stop())

        self.successResultOf(stopping)
        self.assertEqual({self.digest: CONTENT[:120]}, self.blobs.parked)
        self.failureResultOf(self.grown(blob, 120), UpstreamUnreachable)

    def test_nobody_waits_for_the_disk(self) -> None:
        """The last byte may leave when the digest agrees, however long the commit takes."""
        self.blobs.slow_disk = Deferred()
        blob = self.open()
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual(200, self.open().readable)
        self.assertEqual({}, self.blobs.committed)
        self.blobs.slow_disk.callback(None)
        self.assertIn(self.digest, self.blobs.committed)

    def test_readers_read_the_growing_file(self) -> None:
        """A client's own descriptor sees what is written after it was opened, and is closed with it."""
        blob = self.open()
        self.upstream.bodies[0].sends(150)
        fd = blob.fd

        self.assertEqual(CONTENT[:150], os.pread(fd, 200, 0))
        blob.close()
        with self.assertRaises(OSError):
            os.pread(fd, 1, 0)

    def test_stop_while_asking(self) -> None:
        """When the daemon stops, a question that hangs is not waited for."""
        self.upstream.is_hanging = True
        waiting = self.begin_open()
        stopping = Deferred.fromCoroutine(self.puller.stop())

        self.successResultOf(stopping)
        self.failureResultOf(waiting, UpstreamUnreachable)


class BreakTests(PullBlobs):
    """The upstream breaks in the middle."""

    def test_three_cuts(self) -> None:
        """Three cuts are resumed from where the file ends, and nobody notices more than a pause."""
        blob = self.open()
        for _ in range(3):
            self.upstream.bodies[-1].sends(50)
            self.upstream.bodies[-1].breaks()
            self.clock.advance(1)
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual([0, 50, 100, 150], [asked.offset for asked in self.upstream.asked])

    def test_upstream_without_ranges(self) -> None:
        """An upstream that begins at 0 again is read again, and what is there already is skipped."""
        self.upstream.takes_ranges = False
        blob = self.open()
        self.upstream.bodies[0].sends(120)
        self.upstream.bodies[0].breaks()
        self.clock.advance(1)
        self.finish()

        self.assertEqual(CONTENT, self.blobs.committed[self.digest])
        self.assertEqual(200, blob.readable)

    def test_no_progress(self) -> None:
        """Five tries without a byte are enough: clients end short, what is there is parked and resumed."""
        blob = self.open()
        self.upstream.bodies[0].sends(120)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.upstream.bodies[0].breaks()
        waiting = self.grown(blob, 120)
        self.clock.pump([10] * 5)

        self.failureResultOf(waiting, UpstreamRefused)
        self.upstream.failing = None
        self.open()
        self.finish()
        self.assertEqual(120, self.upstream.asked[-1].offset)
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_progress_counts_anew(self) -> None:
        """As many breaks as bytes are survived, as long as a byte comes between them."""
        self.open()
        for _ in range(20):
            self.upstream.bodies[-1].sends(10)
            self.upstream.bodies[-1].breaks()
            self.clock.advance(8)
        self.finish()

        self.assertIn(self.digest, self.blobs.committed)

    def test_silence_after_the_headers(self) -> None:
        """A break after the headers and before the first byte is asked again, however late it comes."""
        blob = self.open()
        self.clock.advance(30)
        self.upstream.bodies[0].breaks()
        self.clock.advance(1)
        self.finish()

        self.assertEqual(200, blob.readable)

    def test_another_source(self) -> None:
        """Where the first client's source fails, another subscriber's is asked."""
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.link(OTHER)
        self.begin_open().addErrback(lambda _: None)
        self.begin_open(OTHER).addErrback(lambda _: None)
        self.clock.advance(1)

        self.assertEqual(
            ["library/ubuntu", "team/other"], [asked.repository for asked in self.upstream.asked[:2]]
        )

    def test_leftover_without_room(self) -> None:
        """What an earlier daemon left and cannot be kept is read again from its beginning."""
        self.room.free = 10
        self.blobs.parked[self.digest] = CONTENT[:120]
        blob = self.open()
        self.finish()

        self.assertEqual(CONTENT, os.pread(blob.fd, 200, 0))
        self.assertEqual(200, blob.readable)

    def test_short_body(self) -> None:
        """A body that ends early, politely, is resumed like a break."""
        self.open()
        self.upstream.bodies[0].content = CONTENT[:70]
        self.finish()
        self.clock.advance(1)
        self.finish()

        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_partial_of_an_earlier_life(self) -> None:
        """What an earlier daemon left is not downloaded again, and can be read at once."""
        self.blobs.parked[self.digest] = CONTENT[:120]
        blob = self.open()

        self.assertEqual(120, blob.readable)
        self.finish()
        self.assertEqual(120, self.upstream.asked[0].offset)
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_complete_partial(self) -> None:
        """A partial to which nothing but the commit is missing asks nobody, if its size is known."""
        self.link(UBUNTU)
        self.blobs.parked[self.digest] = CONTENT

        self.assertEqual(200, self.open().readable)
        self.assertEqual([], self.upstream.asked)
        self.assertIn(self.digest, self.blobs.committed)

    def test_complete_partial_of_unknown_size(self) -> None:
        """A partial that is the whole blob, as a 416 suggests, is verified and not read again."""
        self.blobs.parked[self.digest] = CONTENT

        self.assertEqual(200, self.open().size)
        self.assertEqual([200], [asked.offset for asked in self.upstream.asked])
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_wrong_partial_of_unknown_size(self) -> None:
        """A partial as long as the blob that is not the blob is thrown away; the next pull is right."""
        self.blobs.parked[self.digest] = bytes(200)
        self.begin_open()
        self.clock.advance(1)
        self.finish()
        self.assertEqual({}, self.blobs.committed)

        self.open()
        self.finish()
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_the_validator_is_the_last_body_s(self) -> None:
        """Each question after a break carries what the body before it called itself."""
        self.upstream.validators = ["one", "two"]
        self.open()
        for _ in range(2):
            self.upstream.bodies[-1].sends(50)
            self.upstream.bodies[-1].breaks()
            self.clock.advance(1)

        self.assertEqual([None, "one", "two"], [asked.validator for asked in self.upstream.asked])

    def test_retry_after(self) -> None:
        """In the midst of a blob an upstream that asks for time gets it."""
        self.open()
        self.upstream.bodies[0].sends(50)
        self.upstream.bodies[0].breaks(UpstreamRefused("busy", retry_after_seconds=30.0))
        self.clock.advance(29)
        self.assertEqual(1, len(self.upstream.asked))
        self.clock.advance(1)

        self.assertEqual([0, 50], [asked.offset for asked in self.upstream.asked])

    def test_retry_after_too_long(self) -> None:
        """An upstream that asks for more than a minute ends the download, and what is there is kept."""
        blob = self.open()
        self.upstream.bodies[0].sends(50)
        end = self.grown(blob, 50)
        self.upstream.bodies[0].breaks(UpstreamRefused("busy", retry_after_seconds=61.0))

        self.failureResultOf(end, UpstreamRefused)
        self.assertEqual({self.digest: CONTENT[:50]}, self.blobs.parked)

    def test_down_before_the_headers(self) -> None:
        """An upstream that fails before the size is known is asked for a while, then it is a 5xx."""
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        waiting = self.begin_open()
        self.clock.pump([1] * 20)
        error = self.failureResultOf(waiting, UpstreamRefused).value

        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=503", error.cache_status)

    def test_partial_longer_than_the_blob(self) -> None:
        """A partial that is longer than the blob is thrown away, and the blob read from its beginning."""
        self.blobs.parked[self.digest] = CONTENT + b"more"
        self.begin_open()
        self.clock.advance(1)
        self.finish()

        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_circuit(self) -> None:
        """With the circuit open a miss fails at once."""
        self.upstream.failing = CircuitOpen("failed a moment ago", retry_after_seconds=4)
        self.failure(CircuitOpen)

    def test_probe(self) -> None:
        """Who is turned away for a moment, because another's probe is under way, waits for it."""
        self.upstream.failing = CircuitOpen("a probe is under way", retry_after_seconds=1.5)
        waiting = self.begin_open()
        self.upstream.failing = None
        self.clock.advance(1)

        self.assertEqual(200, self.successResultOf(waiting).size)

    def test_silence_before_the_headers(self) -> None:
        """A silent upstream is a timeout before 25 seconds."""
        self.upstream.is_hanging = True
        waiting = self.begin_open()
        self.clock.advance(24)

        self.failureResultOf(waiting, UpstreamTimeout)


class IntegrityTests(PullBlobs):
    """Wrong bytes."""

    def test_flipped_byte(self) -> None:
        """A wrong byte fails every client short of the end, commits nothing, and the next pull is right."""
        self.upstream.corrupt = lambda content: content[:-1] + b"!"
        blob = self.open()
        end = self.grown(blob, 199)
        self.finish()
        self.failureResultOf(end, UpstreamCorrupt)
        self.assertEqual(({}, {}), (self.blobs.committed, self.blobs.parked))

        self.upstream.corrupt = lambda content: content
        self.open()
        self.finish()
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_wrong_twice(self) -> None:
        """What came wrong twice in a row is not fetched again for a minute."""
        self.upstream.corrupt = lambda content: content[:-1] + b"!"
        for _ in range(2):
            self.open()
            self.finish()
        self.upstream.corrupt = lambda content: content
        self.failure(UpstreamCorrupt)
        self.clock.advance(61)

        self.open()
        self.assertEqual(3, self.upstream.count("GET blob"))

    def test_wrong_and_right_and_wrong(self) -> None:
        """What came right in between is not held against the upstream: only twice in a row is."""
        right, wrong = (lambda content: content), (lambda content: content[:-1] + b"!")
        for corrupt in (wrong, right, wrong, right):
            self.upstream.corrupt = corrupt
            self.blobs.committed.clear()
            self.open()
            self.finish()

        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_too_many_bytes(self) -> None:
        """Bytes beyond the size are never written."""
        self.open()
        self.upstream.bodies[0].content += b"more"
        self.finish()

        self.assertEqual("discarded", self.blobs.partials[0].ended)

    def test_size_against_the_manifest(self) -> None:
        """Where manifest and upstream disagree about the size, the answer waits for the digest."""
        self.link(UBUNTU, size=190)
        waiting = self.begin_open()
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(200, self.successResultOf(waiting).size)
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_size_of_a_head(self) -> None:
        """A size that an upstream's HEAD told, and nobody has verified, is not held against its GET."""
        self.upstream.head_size = 0
        self.assertEqual(0, self.head().size)

        self.assertEqual(200, self.open().size)


class PermissionTests(PullBlobs):
    """Who may read what is there, or on its way."""

    def test_stored_is_not_permitted(self) -> None:
        """A stored blob is not readable through a repository that does not have it upstream."""
        self.open()
        self.finish()
        self.upstream.repositories = {"library/ubuntu"}

        self.failure(BlobUnknown, OTHER)

    def test_link_is_earned(self) -> None:
        """A stored blob becomes readable through another repository by one HEAD, without a GET."""
        self.open()
        self.finish()
        self.open(OTHER)
        self.open(OTHER)

        self.assertEqual((1, 1), (self.upstream.count("HEAD blob"), self.upstream.count("GET blob")))

    def test_head_is_not_permitted(self) -> None:
        """HEAD tells nobody of a stored or running blob who may not read it."""
        self.open()
        self.upstream.repositories = {"library/ubuntu"}
        for _ in ("running", "stored"):
            waiting = Deferred.fromCoroutine(self.puller.head(OTHER, self.digest))
            self.failureResultOf(waiting, BlobUnknown)
            if not self.blobs.committed:
                self.finish()

    def test_refused_and_then_confirmed(self) -> None:
        """A source that was refused and is confirmed later joins the running download."""
        self.upstream.repositories = {"team/other"}
        self.upstream.is_hanging = True
        first = self.begin_open()
        self.link(OTHER)
        self.begin_open(OTHER).addCallback(PulledBlob.close)
        self.upstream.answers()
        self.failureResultOf(first, BlobUnknown)
        self.upstream.repositories = None

        self.assertEqual(200, self.open().size)

    def test_joining_is_not_permitted(self) -> None:
        """A running download is not readable through a repository that does not have the blob upstream."""
        self.open()
        self.upstream.repositories = {"library/ubuntu"}

        self.failure(BlobUnknown, OTHER)

    def test_joining(self) -> None:
        """A running download is joined from another repository after one HEAD there."""
        self.open()

        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(self.open(OTHER).outcome))
        self.assertEqual((1, 1), (self.upstream.count("HEAD blob"), self.upstream.count("GET blob")))

    def test_linked_joins_at_once(self) -> None:
        """Who has a link joins a running download without asking."""
        self.link(OTHER)
        self.open()
        self.open(OTHER)

        self.assertEqual(0, self.upstream.count("HEAD blob"))

    def test_the_first_is_refused(self) -> None:
        """If the first client's repository lacks the blob, it alone gets the 404."""
        self.upstream.repositories = {"team/other"}
        self.upstream.is_hanging = True
        first = self.begin_open()
        self.link(OTHER)
        second = self.begin_open(OTHER)
        self.upstream.answers()

        self.failureResultOf(first, BlobUnknown)
        self.assertEqual(200, self.successResultOf(second).size)

    def test_unknown(self) -> None:
        """A blob that the upstream does not have is a 404."""
        self.upstream.blobs.clear()
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=404", self.failure(BlobUnknown).cache_status)

    def test_head(self) -> None:
        """HEAD of a miss asks by HEAD and begins no download; of a held blob it asks nobody."""
        self.assertEqual(PulledSize, type(self.head()))
        self.assertEqual(0, self.upstream.count("GET blob"))
        self.open()
        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(self.head().outcome))
        self.finish()

        self.assertEqual("mirrord; hit", str(self.head().outcome))
        self.assertEqual(1, self.upstream.count("HEAD blob"))


class DiskTests(PullBlobs):
    """The disk refuses."""

    def test_cannot_fit(self) -> None:
        """What cannot fit reaches its client and is not kept."""
        self.room.free = 100
        blob = self.open()
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual(CONTENT, os.pread(blob.fd, 200, 0))
        self.assertEqual({}, self.blobs.committed)
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=200", str(blob.outcome))

    def test_cannot_be_on_the_disk(self) -> None:
        """What the disk cannot hold even for a while is a 503 before any header leaves."""
        self.room.free = self.room.disk = 100

        self.failure(Unavailable)
        self.assertTrue(self.upstream.bodies[0].is_aborted)

    def test_no_size_and_no_end(self) -> None:
        """A blob whose size nobody tells grows no further than there is room for it."""
        self.upstream.tells_sizes = False
        self.room.free = 100
        waiting = self.begin_open()
        self.upstream.bodies[0].sends(50)

        self.failureResultOf(waiting, Unavailable)
        self.assertTrue(self.upstream.bodies[0].is_aborted)

    def test_no_emergency_for_what_is_not_kept(self) -> None:
        """What is not kept evicts nothing: a full disk ends it."""
        self.room.free = 100
        self.blobs.refusals = [OSError(errno.ENOSPC, "full")]
        end = self.grown(self.open(), 0)
        self.finish()

        self.failureResultOf(end, Unavailable)
        self.assertEqual(0, self.room.emergencies)

    def test_full_disk_is_swept(self) -> None:
        """A full disk in the middle is swept, and the download goes on."""
        self.blobs.refusals = [OSError(errno.ENOSPC, "full")]
        self.open()
        self.finish()

        self.assertEqual(1, self.room.emergencies)
        self.assertIn(self.digest, self.blobs.committed)

    def test_what_nobody_foresaw(self) -> None:
        """A download that breaks in an unforeseen way is logged and resumed by the next client."""
        self.blobs.refusals = [RuntimeError("unforeseen")]
        end = self.grown(self.open(), 0)
        self.upstream.bodies[0].sends(50)
        self.failureResultOf(end, Unavailable)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual("parked", self.blobs.partials[0].ended)

        self.open()
        self.finish()
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_a_commit_that_may_be_tried_again(self) -> None:
        """A commit for which the disk has no room is tried again after a sweep."""
        self.blobs.commit_refusals = [OSError(errno.ENOSPC, "full")]
        self.open()
        self.finish()

        self.assertEqual((1, 2), (self.room.emergencies, self.blobs.commits))
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_a_commit_that_may_not(self) -> None:
        """A commit that failed for good reaches its client, is not tried again, and leaves nothing."""
        self.blobs.commit_refusals = [OSError(errno.EIO, "fsync failed")]
        blob = self.open()
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual((0, 1), (self.room.emergencies, self.blobs.commits))
        self.assertEqual(("discarded", {}), (self.blobs.partials[0].ended, self.blobs.committed))

    def test_full_disk(self) -> None:
        """A disk that stays full ends the download, leaves nothing, and is a 503."""
        self.room.can_help = False
        self.blobs.refusals = [OSError(errno.ENOSPC, "full")]
        blob = self.open()
        end = self.grown(blob, 0)
        self.finish()

        self.failureResultOf(end, Unavailable)
        self.assertEqual("discarded", self.blobs.partials[0].ended)


class FarRangeTests(PullBlobs):
    """Ranges far ahead of a download."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.upstream.has_blob(bytes(FAR_BYTES + 1000))

    def far(self, blob: PulledBlob, first: int = FAR_BYTES + 500) -> object:
        return self.successResultOf(Deferred.fromCoroutine(blob.pass_through(first, first + 10)))

    def test_near(self) -> None:
        """A near range follows the download."""
        self.assertIsNone(self.far(self.open(), FAR_BYTES))
        self.assertEqual(1, self.upstream.count("GET blob"))

    def test_far(self) -> None:
        """A far range is one request of its own for just these bytes."""
        self.assertIsNotNone(self.far(self.open()))
        self.assertEqual(
            (FAR_BYTES + 500, FAR_BYTES + 510), (self.upstream.asked[-1].offset, self.upstream.asked[-1].stop)
        )

    def test_four_at_a_time(self) -> None:
        """A fifth far range follows the download, until one of the four has ended."""
        blob = self.open()
        bodies = [self.far(blob) for _ in range(4)]
        self.assertIsNone(self.far(blob))
        bodies[0].abort()  # type: ignore[attr-defined]
        bodies[0].abort()  # type: ignore[attr-defined]

        self.assertIsNotNone(self.far(blob))
        self.assertIsNone(self.far(blob))

    def test_leaving(self) -> None:
        """A client that leaves while its far range is asked for gives its place free."""
        blob = self.open()
        self.upstream.is_hanging = True
        for _ in range(4):
            waiting = Deferred.fromCoroutine(blob.pass_through(FAR_BYTES + 500, FAR_BYTES + 510))
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.upstream.answers()

        self.assertIsNotNone(self.far(blob))

    def test_late(self) -> None:
        """When the headers are due, a far range follows the download instead of asking."""
        blob = self.open()
        self.clock.advance(21.5)

        self.assertIsNone(self.far(blob))

    def test_upstream_without_ranges(self) -> None:
        """Where the upstream takes no ranges, a far range follows the download."""
        self.upstream.takes_ranges = False

        self.assertIsNone(self.far(self.open()))
        self.assertTrue(self.upstream.bodies[-1].is_aborted)
