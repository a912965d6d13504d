"""Tests of mirrored/fetch.py and asking.py."""

import os

from mirrord.oci.errors import (
    CircuitOpen,
    UpstreamCorrupt,
    UpstreamRefused,
    UpstreamTimeout,
)
from tests.unit.mirrored.cases import CONTENT, OTHER, UBUNTU, PullBlobs


class BreakTests(PullBlobs):
    """The upstream breaks in the middle."""

    def test_three_cuts(self) -> None:
        """Three cuts are resumed from where the file ends, and nobody notices more than a pause."""
        blob = self.open()
        for _ in range(3):
            self.upstream.bodies[-1].send(50)
            self.upstream.bodies[-1].fail()
            self.clock.advance(1)
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual([0, 50, 100, 150], [request.offset for request in self.upstream.requests])

    def test_upstream_without_ranges(self) -> None:
        """An upstream that begins at 0 again is read again, and what is there already is skipped."""
        self.upstream.accepts_ranges = False
        blob = self.open()
        self.upstream.bodies[0].send(120)
        self.upstream.bodies[0].fail()
        self.clock.advance(1)
        self.finish()

        self.assertEqual(CONTENT, self.blobs.committed[self.digest])
        self.assertEqual(200, blob.readable)

    def test_no_progress(self) -> None:
        """Five tries without a byte are enough: clients end short, what is there is parked and resumed."""
        blob = self.open()
        self.upstream.bodies[0].send(120)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.upstream.bodies[0].fail()
        waiting = self.grown(blob, 120)
        self.clock.pump([10] * 5)

        self.failureResultOf(waiting, UpstreamRefused)
        self.upstream.failing = None
        self.open()
        self.finish()
        self.assertEqual(120, self.upstream.requests[-1].offset)
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_progress_counts_anew(self) -> None:
        """As many breaks as bytes are survived, as long as a byte comes between them."""
        self.open()
        for _ in range(20):
            self.upstream.bodies[-1].send(10)
            self.upstream.bodies[-1].fail()
            self.clock.advance(8)
        self.finish()

        self.assertIn(self.digest, self.blobs.committed)

    def test_silence_after_the_headers(self) -> None:
        """A break after the headers and before the first byte is asked again, however late it comes."""
        blob = self.open()
        self.clock.advance(30)
        self.upstream.bodies[0].fail()
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
            ["library/ubuntu", "team/other"], [request.repository for request in self.upstream.requests[:2]]
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
        self.assertEqual(120, self.upstream.requests[0].offset)
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_complete_partial(self) -> None:
        """A partial to which nothing but the commit is missing asks nobody, if its size is known."""
        self.link(UBUNTU)
        self.blobs.parked[self.digest] = CONTENT

        self.assertEqual(200, self.open().readable)
        self.assertEqual([], self.upstream.requests)
        self.assertIn(self.digest, self.blobs.committed)

    def test_complete_partial_of_unknown_size(self) -> None:
        """A partial that is the whole blob, as a 416 suggests, is verified and not read again."""
        self.blobs.parked[self.digest] = CONTENT

        self.assertEqual(200, self.open().size)
        self.assertEqual([200], [request.offset for request in self.upstream.requests])
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
            self.upstream.bodies[-1].send(50)
            self.upstream.bodies[-1].fail()
            self.clock.advance(1)

        self.assertEqual([None, "one", "two"], [request.validator for request in self.upstream.requests])

    def test_retry_after(self) -> None:
        """In the midst of a blob an upstream that asks for time gets it."""
        self.open()
        self.upstream.bodies[0].send(50)
        self.upstream.bodies[0].fail(UpstreamRefused("busy", retry_after_seconds=30.0))
        self.clock.advance(29)
        self.assertEqual(1, len(self.upstream.requests))
        self.clock.advance(1)

        self.assertEqual([0, 50], [request.offset for request in self.upstream.requests])

    def test_retry_after_too_long(self) -> None:
        """An upstream that asks for more than a minute ends the download, and what is there is kept."""
        blob = self.open()
        self.upstream.bodies[0].send(50)
        end = self.grown(blob, 50)
        self.upstream.bodies[0].fail(UpstreamRefused("busy", retry_after_seconds=61.0))

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

        self.assertEqual(200, self.successResultOf(waiting).blob.size)

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

        self.assertEqual(200, self.successResultOf(waiting).blob.size)
        self.assertEqual(CONTENT, self.blobs.committed[self.digest])

    def test_size_of_a_head(self) -> None:
        """A size that an upstream's HEAD told, and nobody has verified, is not held against its GET."""
        self.upstream.head_size = 0
        self.assertEqual(0, self.head().size)

        self.assertEqual(200, self.open().size)
