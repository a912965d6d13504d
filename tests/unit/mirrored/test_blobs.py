"""Tests of mirrored/blobs.py."""

import os

from twisted.internet.defer import CancelledError

from mirrord.mirrored.blobs import DownloadProgress
from mirrord.oci.errors import BlobUnknown, CircuitOpen, UpstreamRefused, UpstreamUnreachable
from mirrord.repository import BlobSizeResult
from tests.unit.mirrored.cases import CONTENT, OTHER, UBUNTU, DownloadCase


class SingleDownloadTests(DownloadCase):
    """A blob is downloaded once, whatever the number of clients."""

    def test_miss_and_hit(self) -> None:
        """The first pull downloads and stores a blob, the next one is a hit."""
        self.assertEqual("mirrord; fwd=uri-miss; stored", str(self.open_result().cache))
        self.finish()

        self.assert_committed()
        self.assertEqual("mirrord; hit", str(self.open_result().cache))
        self.assertEqual(1, self.upstream.count("GET blob"))

    def test_headers_before_bytes(self) -> None:
        """A blob can be opened as soon as its size is known, before any byte has arrived."""
        self.assertEqual((200, 0), (self.open().size, self.open().readable))

    def test_many_clients(self) -> None:
        """Sixteen clients, some of them late, cause one GET, and all can read the whole blob."""
        results = [self.open_result() for _ in range(8)]
        self.upstream.bodies[0].send(100)
        results += [self.open_result() for _ in range(8)]
        self.finish()

        self.assertEqual(1, self.upstream.count("GET blob"))
        self.assertEqual({200}, {result.blob.readable for result in results})
        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(results[-1].cache))

    def test_growth(self) -> None:
        """Clients may read what is written, but not the last byte before the digest is verified."""
        blob = self.open()
        more = self.grown(blob, 0)
        self.upstream.bodies[0].send(150)
        self.assertEqual(150, self.successResultOf(more))
        self.upstream.bodies[0].send(50)

        self.assertEqual(199, blob.readable)
        self.finish()
        self.assertEqual(200, blob.readable)

    def test_last_client_disconnects(self) -> None:
        """A download without clients continues."""
        waiting = self.grown(self.open(), 0)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.finish()

        self.assert_committed()

    def test_client_disconnects_before_the_headers(self) -> None:
        """A download whose first client disconnected before the size was known continues."""
        self.upstream.is_hanging = True
        waiting = self.begin_open()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.upstream.respond()
        self.finish()

        self.assert_committed()

    def test_empty_blob(self) -> None:
        """An empty blob is opened after it was verified."""
        digest = self.upstream.add_blob(b"")
        waiting = self.begin_open(digest=digest)
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(0, self.successResultOf(waiting).blob.size)

    def test_upstream_without_sizes(self) -> None:
        """If neither the upstream nor a manifest has the size, the blob is opened when it is complete."""
        self.upstream.reports_sizes = False
        waiting = self.begin_open()
        self.upstream.bodies[0].send(200)
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(200, self.successResultOf(waiting).blob.size)

    def test_size_from_the_manifest(self) -> None:
        """With the size from a manifest, the blob is opened though the upstream does not report a size."""
        self.hint(UBUNTU)
        self.upstream.reports_sizes = False

        self.assertEqual(200, self.open().size)

    def test_stop(self) -> None:
        """Running downloads are parked when the daemon stops."""
        blob = self.open()
        self.upstream.bodies[0].send(120)
        stopping = self.begin(self.downloads.stop())

        self.successResultOf(stopping)
        self.assertEqual(CONTENT[:120], self.store.partial(self.digest))
        self.failureResultOf(self.grown(blob, 120), UpstreamUnreachable)

    def test_slow_disk(self) -> None:
        """The last byte may be sent when the digest is verified, however long the commit takes."""
        blob = self.open()
        self.upstream.bodies[0].send(200)
        self.threads.hold()
        self.finish()

        self.assertEqual(200, blob.readable)
        self.assertEqual(200, self.open().readable)
        self.assertFalse(self.store.has(self.digest))
        self.threads.release()
        self.assert_committed()

    def test_descriptors(self) -> None:
        """The descriptor of a reader sees what is written after it was opened, and is closed with it."""
        blob = self.open()
        self.upstream.bodies[0].send(150)
        fd = blob.fd

        self.assertEqual(CONTENT[:150], os.pread(fd, 200, 0))
        blob.close()
        with self.assertRaises(OSError):
            os.pread(fd, 1, 0)

    def test_stop_before_the_headers(self) -> None:
        """A request that hangs does not delay the stop of the daemon."""
        self.upstream.is_hanging = True
        waiting = self.begin_open()
        stopping = self.begin(self.downloads.stop())

        self.successResultOf(stopping)
        self.failureResultOf(waiting, UpstreamUnreachable)


class PermissionTests(DownloadCase):
    """Stored blobs, and those being downloaded, are readable through repositories that have them."""

    def test_stored_elsewhere(self) -> None:
        """A stored blob is not readable through a repository whose upstream does not have it."""
        self.open()
        self.finish()
        self.upstream.repositories = {"library/ubuntu"}

        self.failure(BlobUnknown, OTHER)

    def test_confirmed(self) -> None:
        """A stored blob becomes readable through another repository by one HEAD, without a GET."""
        self.open()
        self.finish()
        self.open(OTHER)
        self.open(OTHER)

        self.assertEqual((1, 1), (self.upstream.count("HEAD blob"), self.upstream.count("GET blob")))

    def test_head_elsewhere(self) -> None:
        """HEAD does not reveal a stored blob, or one being downloaded, to other repositories."""
        self.open()
        self.upstream.repositories = {"library/ubuntu"}
        for _ in ("running", "stored"):
            waiting = self.begin(self.downloads.head(OTHER, self.digest))
            self.failureResultOf(waiting, BlobUnknown)
            if not self.store.has(self.digest):
                self.finish()

    def test_confirmed_after_refusal(self) -> None:
        """A repository that was refused and is confirmed later joins the running download."""
        self.upstream.repositories = {"team/other"}
        self.upstream.is_hanging = True
        first = self.begin_open()
        self.link(OTHER)
        self.begin_open(OTHER).addCallback(lambda result: result.blob.close())
        self.upstream.respond()
        self.failureResultOf(first, BlobUnknown)
        self.upstream.repositories = None

        self.assertEqual(200, self.open().size)

    def test_join_elsewhere(self) -> None:
        """A running download is not readable through a repository whose upstream does not have the blob."""
        self.open()
        self.upstream.repositories = {"library/ubuntu"}

        self.failure(BlobUnknown, OTHER)

    def test_join(self) -> None:
        """Another repository joins a running download after one HEAD."""
        self.open()

        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(self.open_result(OTHER).cache))
        self.assertEqual((1, 1), (self.upstream.count("HEAD blob"), self.upstream.count("GET blob")))

    def test_linked_join(self) -> None:
        """A linked repository joins a running download without a request."""
        self.link(OTHER)
        self.open()
        self.open(OTHER)

        self.assertEqual(0, self.upstream.count("HEAD blob"))

    def test_first_refused(self) -> None:
        """If the first repository lacks the blob, its clients get a 404 and the others the blob."""
        self.upstream.repositories = {"team/other"}
        self.upstream.is_hanging = True
        first = self.begin_open()
        self.link(OTHER)
        second = self.begin_open(OTHER)
        self.upstream.respond()

        self.failureResultOf(first, BlobUnknown)
        self.assertEqual(200, self.successResultOf(second).blob.size)

    def test_wrong_size(self) -> None:
        """A HEAD whose size is not that of the stored blob confirms nothing."""
        self.open()
        self.finish()
        self.upstream.head_size = 199

        self.failure(UpstreamRefused, OTHER)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.failure(UpstreamRefused, OTHER)

    def test_unreported_size(self) -> None:
        """A HEAD without a size confirms a stored blob."""
        self.open()
        self.finish()
        self.upstream.reports_sizes = False

        self.assertEqual(200, self.open(OTHER).size)

    def test_upstream_fails(self) -> None:
        """A stored blob without a link is an upstream error while the upstream fails."""
        self.open()
        self.finish()
        self.upstream.failing = CircuitOpen("it failed recently", retry_after_seconds=4)

        self.failure(CircuitOpen, OTHER)

    def test_downloaded_for_another(self) -> None:
        """The first client gets no byte that came through another repository while its own upstream fails."""
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        first = self.begin_open()
        self.link(OTHER)
        second = self.begin_open(OTHER)
        self.upstream.failing = None
        self.upstream.repositories = {"team/other"}
        self.clock.advance(1)

        self.assertEqual(200, self.successResultOf(second).blob.size)
        self.failureResultOf(first, BlobUnknown)
        self.failureResultOf(self.begin(self.downloads.head(UBUNTU, self.digest)), BlobUnknown)
        self.finish()
        self.failure(BlobUnknown)
        self.assertEqual(200, self.open(OTHER).size)

    def test_complete_partial_of_another(self) -> None:
        """A complete partial is not readable by a repository that has a hint of its size and no answer."""
        self.store.park(self.digest, CONTENT)
        self.hint(OTHER)
        self.upstream.repositories = {"library/ubuntu"}

        self.failure(BlobUnknown, OTHER)
        self.failure(BlobUnknown, OTHER)

    def test_interrupted(self) -> None:
        """The upstream's answer is a link also if the download is interrupted: its partial can be removed."""
        self.open()
        self.upstream.bodies[0].send(50)
        self.successResultOf(self.begin(self.downloads.stop()))

        self.assertTrue(self.store.opened.index.is_linked(UBUNTU, self.digest))

    def test_unknown(self) -> None:
        """A blob that the upstream does not have is unknown."""
        self.upstream.blobs.clear()
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=404", self.failure(BlobUnknown).cache_status)

    def test_head(self) -> None:
        """HEAD of a miss is forwarded and starts no download; of a stored blob it is a hit."""
        self.assertEqual(BlobSizeResult, type(self.head()))
        self.assertEqual(0, self.upstream.count("GET blob"))
        self.open()
        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(self.head().cache))
        self.finish()

        self.assertEqual("mirrord; hit", str(self.head().cache))
        self.assertEqual(1, self.upstream.count("HEAD blob"))


class DownloadProgressTests(DownloadCase):
    def progress(self, written: int, *, subscribers: int, bytes_per_second: int) -> DownloadProgress:
        return DownloadProgress(
            digest=self.digest,
            source=UBUNTU,
            written=written,
            size=200,
            subscribers=subscribers,
            bytes_per_second=bytes_per_second,
        )

    def test_running(self) -> None:
        """The progress has the bytes written, the number of readers and the average rate."""
        self.assertEqual([], self.downloads.running)
        first, second = self.open(), self.open()
        self.assertEqual([self.progress(0, subscribers=2, bytes_per_second=0)], self.downloads.running)

        self.upstream.bodies[0].send(100)
        self.clock.advance(2)
        first.close()
        first.close()
        self.assertEqual([self.progress(100, subscribers=1, bytes_per_second=50)], self.downloads.running)

        second.close()
        self.finish()
        self.assertEqual([], self.downloads.running)

    def test_resumed(self) -> None:
        """The bytes of an earlier download count as written, and not in the rate."""
        self.store.park(self.digest, CONTENT[:120])
        self.open()
        self.upstream.bodies[0].send(20)
        self.clock.advance(2)
        self.assertEqual([self.progress(140, subscribers=1, bytes_per_second=10)], self.downloads.running)
