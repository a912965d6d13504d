"""Tests of the bounds of downloads in mirrored/blobs.py and fetch.py: slots, and what is parked for them."""

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.slots import DownloadSlots
from mirrord.mirrored.timeouts import SLOT_SECONDS
from mirrord.oci.digest import Digest
from mirrord.oci.errors import TooManyDownloads, UpstreamUnreachable
from mirrord.repository import BlobReader, BlobResult
from tests.fakes.repositories import Repositories
from tests.unit.mirrored.cases import CONTENT, UBUNTU, DownloadCase

OTHER_CONTENT = bytes(range(100, 250))


class SlotCase(DownloadCase):
    """One download at a time."""

    def setUp(self) -> None:
        super().setUp()
        self.downloads.slots = DownloadSlots(1, 1)
        self.other = self.upstream.add_blob(OTHER_CONTENT)

    def request(self, digest: Digest, client: str | None = "a") -> "Deferred[BlobResult]":
        return self.begin(self.downloads.open(UBUNTU, digest, client))

    def opened(self, request: "Deferred[BlobResult]") -> BlobReader:
        blob = self.successResultOf(request).blob
        self.addCleanup(blob.close)
        return blob

    def written(self) -> list[tuple[Digest, int]]:
        return [(download.digest, download.written) for download in self.downloads.running]


class WaitTests(SlotCase):
    def test_granted(self) -> None:
        """A client whose download has no slot waits, and is served when another download has ended."""
        self.opened(self.request(self.digest))
        waiting = self.request(self.other)
        self.assertNoResult(waiting)
        self.assertEqual([(self.digest, 0)], self.written())
        self.finish()
        self.assertEqual(len(OTHER_CONTENT), self.opened(waiting).size)
        self.finish()
        self.assertTrue(self.store.has(self.other))

    def test_timeout(self) -> None:
        """A client that waited too long for a slot gets an error with Retry-After; nothing was requested."""
        self.opened(self.request(self.digest))
        waiting = self.request(self.other)
        self.clock.advance(SLOT_SECONDS / 2)
        later = self.request(self.other)
        self.clock.advance(SLOT_SECONDS / 2)
        error = self.failureResultOf(waiting, TooManyDownloads).value
        self.assertEqual((503, "UNAVAILABLE", 10.0), (error.status, error.code, error.retry_after_seconds))
        self.assertNoResult(later)
        self.clock.advance(SLOT_SECONDS / 2)
        self.failureResultOf(later, TooManyDownloads)
        self.assertEqual(1, self.upstream.count("GET blob"))
        self.finish()
        self.assertEqual([], self.downloads.running)

    def test_disconnect(self) -> None:
        """The download of a client that disconnects while it waits never begins."""
        self.opened(self.request(self.digest))
        waiting = self.request(self.other)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.finish()
        self.assertEqual((1, []), (self.upstream.count("GET blob"), self.downloads.running))

    def test_stop(self) -> None:
        """Clients that wait for a slot get an error when the daemon stops."""
        self.opened(self.request(self.digest))
        waiting = self.request(self.other)
        self.successResultOf(self.begin(self.downloads.stop()))
        self.failureResultOf(waiting, TooManyDownloads)


class ParkTests(SlotCase):
    def test_without_a_reader(self) -> None:
        """A download without a reader is parked for another, and continues from its partial later."""
        blob = self.opened(self.request(self.digest))
        self.upstream.bodies[0].send(120)
        blob.close()
        self.assertEqual([(self.digest, 120)], self.written())
        self.opened(self.request(self.other))
        self.assertTrue(self.upstream.bodies[0].is_aborted)
        self.assertEqual([(self.other, 0)], self.written())
        self.assertEqual(CONTENT[:120], self.store.partial(self.digest))
        self.finish()

        self.opened(self.request(self.digest))
        self.assertEqual(120, self.upstream.requests[-1].offset)
        self.finish()
        self.assert_committed()

    def test_before_the_headers(self) -> None:
        """A download that waits for the upstream, and whose client has left, is parked at once."""
        self.upstream.is_hanging = True
        waiting = self.request(self.digest)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.upstream.is_hanging = False
        self.opened(self.request(self.other))
        self.assertEqual([(self.other, 0)], self.written())

    def test_late_reader(self) -> None:
        """A client that arrives while a download is being parked reads a new one that resumes it."""
        blob = self.opened(self.request(self.digest))
        self.upstream.bodies[0].send(120)
        blob.close()
        self.threads.hold()
        waiting = self.request(self.other)
        late = self.request(self.digest)
        self.assertNoResult(late)
        self.assertTrue(self.upstream.bodies[0].is_aborted)
        self.threads.release()
        self.opened(waiting)
        self.finish()
        again = self.opened(late)
        self.assertEqual((120, 120), (again.readable, self.upstream.requests[-1].offset))
        self.finish()
        self.assertEqual(CONTENT, os.pread(again.fd, 200, 0))
        self.assertEqual(200, again.readable)

    def test_slow_write(self) -> None:
        """A download that is parked during a write keeps what is written; the next one waits for that."""
        blob = self.opened(self.request(self.digest))
        self.threads.hold()
        self.upstream.bodies[0].send(120)
        blob.close()
        waiting = self.request(self.other)
        self.assertTrue(self.upstream.bodies[0].is_aborted)
        self.assertNoResult(waiting)
        self.threads.release()
        self.assertEqual(CONTENT[:120], self.store.partial(self.digest))
        self.opened(waiting)

    def test_background(self) -> None:
        """A background download is parked for a client; its reader gets an error, and may resume it."""
        blob = self.opened(self.request(self.digest, None))
        self.upstream.bodies[0].send(120)
        end = self.grown(blob, 120)
        self.opened(self.request(self.other))
        error = self.failureResultOf(end, TooManyDownloads).value
        self.assertEqual(10.0, error.retry_after_seconds)
        self.finish()
        self.assertEqual(120, self.opened(self.request(self.digest, None)).readable)

    def test_background_and_client(self) -> None:
        """A download that a client reads too is not parked."""
        self.opened(self.request(self.digest, None))
        client = self.opened(self.request(self.digest))
        waiting = self.request(self.other)
        self.assertNoResult(waiting)
        client.close()
        self.opened(waiting)

    def test_commit(self) -> None:
        """A download that is being committed is not parked."""
        blob = self.opened(self.request(self.digest))
        self.threads.hold("commit")
        self.finish()
        blob.close()
        waiting = self.request(self.other)
        self.assertNoResult(waiting)
        self.threads.release()
        self.opened(waiting)
        self.assert_committed()

    def test_stopping(self) -> None:
        """A download that is parked when the daemon stops leaves its partial, and the stop completes."""
        blob = self.opened(self.request(self.digest))
        self.upstream.bodies[0].send(120)
        blob.close()
        self.threads.hold()
        self.begin(self.downloads.open(UBUNTU, self.other, "a")).addErrback(
            lambda failure: failure.trap(TooManyDownloads, UpstreamUnreachable)
        )
        stopping = self.begin(self.downloads.stop())
        self.assertNoResult(stopping)
        self.threads.release()
        self.successResultOf(stopping)
        self.assertEqual(CONTENT[:120], self.store.partial(self.digest))


class Fixture(SynchronousTestCase):
    """The test that owns the store of a DownloadsMachine."""

    def runTest(self) -> None:
        pass


class DownloadsMachine(RuleBasedStateMachine):
    """Clients come and go, bodies send, end and break, and two downloads run at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.case = Fixture()
        self.repositories = Repositories.of(self.case)
        self.downloads = self.repositories.downloads
        self.downloads.slots = DownloadSlots(2, 2)
        self.hub, self.clock = self.repositories.hub, self.repositories.clock
        self.contents = {
            self.hub.add_blob(content): content for content in (bytes(range(n, n + 100)) for n in range(4))
        }
        self.readers: list[tuple[bytes, BlobReader]] = []
        self.requests: list[Deferred[None]] = []

    def teardown(self) -> None:
        for _, blob in self.readers:
            blob.close()
        self.case.doCleanups()

    @rule(place=st.integers(0, 3), client=st.sampled_from([None, "a", "b"]))
    def request(self, place: int, client: str | None) -> None:
        digest, content = list(self.contents.items())[place]
        opening = Deferred.fromCoroutine(self.downloads.open(UBUNTU, digest, client))
        self.requests.append(opening.addCallbacks(self._opened, lambda _: None, callbackArgs=(content,)))

    def _opened(self, result: BlobResult, content: bytes) -> None:
        self.readers.append((content, result.blob))

    @precondition(lambda self: self.readers)
    @rule(place=st.integers(0, 99))
    def close(self, place: int) -> None:
        _, blob = self.readers.pop(place % len(self.readers))
        blob.close()

    @precondition(lambda self: self.requests)
    @rule(place=st.integers(0, 99))
    def disconnect(self, place: int) -> None:
        self.requests.pop(place % len(self.requests)).cancel()

    @precondition(lambda self: self.hub.bodies)
    @rule(place=st.integers(0, 99), count=st.integers(1, 120), breaks=st.booleans())
    def send(self, place: int, count: int, breaks: bool) -> None:
        bodies = [body for body in self.hub.bodies if not body.is_aborted]
        if bodies:
            body = bodies[place % len(bodies)]
            if count >= len(body.content):
                body.finish()
            else:
                body.send(count)
                if breaks:
                    body.fail()

    @rule(seconds=st.sampled_from([0.5, 5.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.clock.pump([seconds / 10] * 10)

    @rule()
    def slow_disk(self) -> None:
        threads = self.repositories.store.threads
        if threads.is_held:
            threads.release()
        else:
            threads.hold("append", "stamp", "commit")

    @invariant()
    def one_download(self) -> None:
        """At most two downloads run, and each blob has one connection to the upstream."""
        assert len(self.downloads.running) <= 2
        assert sum(not body.is_aborted for body in self.hub.bodies) <= 2

    @invariant()
    def right_bytes(self) -> None:
        """Readers can read right bytes only, and the last one only of a verified blob."""
        for content, blob in self.readers:
            body = blob.body or os.pread(blob.fd, blob.readable, 0)
            assert body == content[: blob.readable]


DownloadsModelTests = DownloadsMachine.TestCase
DownloadsModelTests.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
