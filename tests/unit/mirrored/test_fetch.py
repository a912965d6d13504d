"""Tests of mirrored/fetch.py and fetch_policy.py."""

import os

from mirrord.oci.errors import (
    CircuitOpen,
    Unavailable,
    UpstreamCorrupt,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from tests.unit.mirrored.cases import CONTENT, OTHER, UBUNTU, DownloadCase


class InterruptedTests(DownloadCase):
    """Downloads that are interrupted and resumed."""

    def test_three_interruptions(self) -> None:
        """An interrupted download is resumed from the end of the file, unnoticed by its readers."""
        blob = self.open()
        for _ in range(3):
            self.upstream.bodies[-1].send(50)
            self.upstream.bodies[-1].fail()
            self.clock.advance(1)
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual([0, 50, 100, 150], [request.offset for request in self.upstream.requests])

    def test_upstream_without_ranges(self) -> None:
        """If the upstream starts at 0 again, the bytes that are written already are skipped."""
        self.upstream.accepts_ranges = False
        blob = self.open()
        self.upstream.bodies[0].send(120)
        self.upstream.bodies[0].fail()
        self.clock.advance(1)
        self.finish()

        self.assert_committed()
        self.assertEqual(200, blob.readable)

    def test_no_progress(self) -> None:
        """After five attempts without progress the download fails; the next one resumes its partial."""
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
        self.assert_committed()

    def test_progress_resets_the_attempts(self) -> None:
        """A download survives any number of interruptions with progress between them."""
        self.open()
        for _ in range(20):
            self.upstream.bodies[-1].send(10)
            self.upstream.bodies[-1].fail()
            self.clock.advance(8)
        self.finish()

        self.assert_committed()

    def test_silence_after_the_headers(self) -> None:
        """An interruption between the headers and the first byte is retried, however late it is."""
        blob = self.open()
        self.clock.advance(30)
        self.upstream.bodies[0].fail()
        self.clock.advance(1)
        self.finish()

        self.assertEqual(200, blob.readable)

    def test_another_repository(self) -> None:
        """If the first repository fails, another subscriber's repository is requested."""
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.link(OTHER)
        self.begin_open().addErrback(lambda _: None)
        self.begin_open(OTHER).addErrback(lambda _: None)
        self.clock.advance(1)

        self.assertEqual(
            ["library/ubuntu", "team/other"], [request.repository for request in self.upstream.requests[:2]]
        )

    def test_partial_without_room(self) -> None:
        """A partial that cannot be kept is discarded, and the blob downloaded from its beginning."""
        self.space.free = 10
        self.store.park(self.digest, CONTENT[:120])
        blob = self.open()
        self.finish()

        self.assertEqual(CONTENT, os.pread(blob.fd, 200, 0))
        self.assertEqual(200, blob.readable)

    def test_short_body(self) -> None:
        """A body that ends early is resumed like an interruption."""
        self.open()
        self.upstream.bodies[0].content = CONTENT[:70]
        self.finish()
        self.clock.advance(1)
        self.finish()

        self.assert_committed()

    def test_partial(self) -> None:
        """The partial of an earlier run is not downloaded again, and can be read at once."""
        self.store.park(self.digest, CONTENT[:120])
        blob = self.open()

        self.assertEqual(120, blob.readable)
        self.finish()
        self.assertEqual(120, self.upstream.requests[0].offset)
        self.assert_committed()

    def test_complete_partial(self) -> None:
        """A complete partial of known size is committed without a request."""
        self.link(UBUNTU)
        self.store.park(self.digest, CONTENT)

        self.threads.hold("hash_range")
        blob = self.open()
        self.threads.release()
        self.assertEqual(200, blob.readable)
        self.assertEqual([], self.upstream.requests)
        self.assert_committed()

    def test_complete_partial_of_unknown_size(self) -> None:
        """A partial that a 416 suggests to be the whole blob is verified and committed."""
        self.store.park(self.digest, CONTENT)

        self.threads.hold()
        waiting = self.begin_open()
        self.threads.release()
        blob = self.successResultOf(waiting).blob
        self.addCleanup(blob.close)
        self.assertEqual(200, blob.size)
        self.assertEqual([200], [each.offset for each in self.upstream.requests if each.method == "GET blob"])
        self.assert_committed()

    def test_wrong_partial_of_unknown_size(self) -> None:
        """A partial of the right size and wrong content is discarded; the next pull succeeds."""
        self.store.park(self.digest, bytes(200))
        self.begin_open()
        self.clock.advance(1)
        self.finish()
        self.assert_absent()

        self.open()
        self.finish()
        self.assert_committed()

    def test_damaged_partial(self) -> None:
        """If a resumed blob does not match, its readers fail, and it is downloaded from its beginning."""
        self.store.park(self.digest, bytes(120))
        blob = self.open()
        end = self.grown(blob, 199)
        self.upstream.bodies[0].send(80)
        self.finish()
        self.assertNotIsInstance(self.failureResultOf(end, Unavailable).value, UpstreamError)
        self.assertEqual([120, 0], [request.offset for request in self.upstream.requests])

        again = self.open()
        self.assertEqual(0, again.readable)
        self.finish()
        self.assertEqual(CONTENT, os.pread(again.fd, 200, 0))
        self.assert_committed()

    def test_damaged_partial_and_corrupt_upstream(self) -> None:
        """If the blob is corrupt after a damaged partial was discarded too, nothing is left of it."""
        self.upstream.corrupt = lambda content: content[:-1] + b"!"
        self.store.park(self.digest, bytes(120))
        self.open()
        self.finish()
        self.finish()
        self.assert_absent()

        self.upstream.corrupt = lambda content: content
        self.open()
        self.finish()
        self.assert_committed()

    def test_validators(self) -> None:
        """Each request has the validator of the body before it."""
        self.upstream.validators = ["one", "two"]
        self.open()
        for _ in range(2):
            self.upstream.bodies[-1].send(50)
            self.upstream.bodies[-1].fail()
            self.clock.advance(1)

        self.assertEqual([None, "one", "two"], [request.validator for request in self.upstream.requests])

    def test_retry_after(self) -> None:
        """Retry-After is respected between the parts of a blob."""
        self.open()
        self.upstream.bodies[0].send(50)
        self.upstream.bodies[0].fail(UpstreamRefused("busy", retry_after_seconds=30.0))
        self.clock.advance(29)
        self.assertEqual(1, len(self.upstream.requests))
        self.clock.advance(1)

        self.assertEqual([0, 50], [request.offset for request in self.upstream.requests])

    def test_long_retry_after(self) -> None:
        """A Retry-After of more than a minute ends the download, and its partial is kept."""
        blob = self.open()
        self.upstream.bodies[0].send(50)
        end = self.grown(blob, 50)
        self.upstream.bodies[0].fail(UpstreamRefused("busy", retry_after_seconds=61.0))

        self.failureResultOf(end, UpstreamRefused)
        self.assertEqual(CONTENT[:50], self.store.partial(self.digest))

    def test_down_before_the_headers(self) -> None:
        """Requests that fail before the headers are retried for a while, then the download fails."""
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        waiting = self.begin_open()
        self.clock.pump([1] * 20)
        error = self.failureResultOf(waiting, UpstreamRefused).value

        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=503", error.cache_status)

    def test_partial_longer_than_the_blob(self) -> None:
        """A partial that is longer than the blob is discarded, and the blob downloaded from its beginning."""
        self.store.park(self.digest, CONTENT + b"more")
        self.begin_open()
        self.clock.advance(1)
        self.finish()

        self.assert_committed()

    def test_circuit(self) -> None:
        """A miss fails at once if the circuit is open."""
        self.upstream.failing = CircuitOpen("failed a moment ago", retry_after_seconds=4)
        self.failure(CircuitOpen)

    def test_probe(self) -> None:
        """A request that is rejected while another one probes the upstream is retried after the probe."""
        self.upstream.failing = CircuitOpen("a probe is under way", retry_after_seconds=1.5)
        waiting = self.begin_open()
        self.upstream.failing = None
        self.clock.advance(1)

        self.assertEqual(200, self.successResultOf(waiting).blob.size)

    def test_silence_before_the_headers(self) -> None:
        """A silent upstream is a timeout within 25 seconds."""
        self.upstream.is_hanging = True
        waiting = self.begin_open()
        self.clock.advance(24)

        self.failureResultOf(waiting, UpstreamTimeout)


class IntegrityTests(DownloadCase):
    """Downloads of corrupt content."""

    def test_flipped_byte(self) -> None:
        """A download with a wrong byte fails before its end and leaves nothing; the next pull succeeds."""
        self.upstream.corrupt = lambda content: content[:-1] + b"!"
        blob = self.open()
        end = self.grown(blob, 199)
        self.finish()
        self.failureResultOf(end, UpstreamCorrupt)
        self.assert_absent()

        self.upstream.corrupt = lambda content: content
        self.open()
        self.finish()
        self.assert_committed()

    def test_slow_disk(self) -> None:
        """Readers of a failed download do not wait for the disk; later ones wait, and begin a new one."""
        self.upstream.corrupt = lambda content: content[:-1] + b"!"
        end = self.grown(self.open(), 199)
        self.threads.hold("unlink_all")
        self.finish()
        self.failureResultOf(end, UpstreamCorrupt)
        self.upstream.corrupt = lambda content: content
        later = self.begin_open()
        self.assertNoResult(later)
        self.threads.release()
        self.assertEqual(200, self.successResultOf(later).blob.size)
        self.finish()
        self.assert_committed()

    def test_corrupt_twice(self) -> None:
        """A blob that was corrupt twice in a row is not downloaded again for a minute."""
        self.upstream.corrupt = lambda content: content[:-1] + b"!"
        for _ in range(2):
            self.open()
            self.finish()
        self.upstream.corrupt = lambda content: content
        self.failure(UpstreamCorrupt)
        self.clock.advance(61)

        self.open()
        self.assertEqual(3, self.upstream.count("GET blob"))

    def test_corrupt_now_and_then(self) -> None:
        """A valid download in between resets the count of corrupt ones."""
        right, wrong = (lambda content: content), (lambda content: content[:-1] + b"!")
        for corrupt in (wrong, right, wrong, right):
            self.upstream.corrupt = corrupt
            self.successResultOf(self.begin(self.store.opened.browser.remove([self.digest])))
            self.open()
            self.finish()

        self.assert_committed()

    def test_too_many_bytes(self) -> None:
        """A body with more bytes than the blob is corrupt, and nothing is left."""
        self.open()
        self.upstream.bodies[0].content += b"more"
        self.finish()

        self.assert_absent()

    def test_size_against_the_manifest(self) -> None:
        """If the sizes of the manifest and the upstream differ, the blob is opened when it is verified."""
        self.link(UBUNTU, size=190)
        waiting = self.begin_open()
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(200, self.successResultOf(waiting).blob.size)
        self.assert_committed()

    def test_size_of_a_head(self) -> None:
        """The size in a response to HEAD is not compared with that of the GET."""
        self.upstream.head_size = 0
        self.assertEqual(0, self.head().size)

        self.assertEqual(200, self.open().size)
