"""Tests of mirrored/blobs.py."""

import os

from twisted.internet.defer import CancelledError, Deferred

from mirrord.oci.errors import (
    BlobUnknown,
    UpstreamUnreachable,
)
from mirrord.repository import BlobSizeResult
from tests.unit.mirrored.cases import CONTENT, OTHER, UBUNTU, PullBlobs


class OneDownloadTests(PullBlobs):
    """One upstream download a blob, whoever wants it."""

    def test_miss_and_hit(self) -> None:
        """The first pull downloads and stores, the next one is local."""
        self.assertEqual("mirrord; fwd=uri-miss; stored", str(self.open_result().cache))
        self.finish()

        self.assertEqual({self.digest: CONTENT}, self.blobs.committed)
        self.assertEqual("mirrord; hit", str(self.open_result().cache))
        self.assertEqual(1, self.upstream.count("GET blob"))

    def test_headers_before_bytes(self) -> None:
        """A client can answer its headers as soon as the size is known, before any byte has come."""
        self.assertEqual((200, 0), (self.open().size, self.open().readable))

    def test_many_clients(self) -> None:
        """Sixteen clients, some of them late, cost one GET, and all can read all of it."""
        results = [self.open_result() for _ in range(8)]
        self.upstream.bodies[0].send(100)
        results += [self.open_result() for _ in range(8)]
        self.finish()

        self.assertEqual(1, self.upstream.count("GET blob"))
        self.assertEqual({200}, {result.blob.readable for result in results})
        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(results[-1].cache))

    def test_followers_read_what_is_written(self) -> None:
        """A client may read what is written, but not the last byte before all is verified."""
        blob = self.open()
        more = self.grown(blob, 0)
        self.upstream.bodies[0].send(150)
        self.assertEqual(150, self.successResultOf(more))
        self.upstream.bodies[0].send(50)

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
        self.upstream.respond()
        self.finish()

        self.assertIn(self.digest, self.blobs.committed)

    def test_empty_blob(self) -> None:
        """An empty blob is answered when it is verified."""
        digest = self.upstream.add_blob(b"")
        waiting = self.begin_open(digest=digest)
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(0, self.successResultOf(waiting).blob.size)

    def test_upstream_without_sizes(self) -> None:
        """Where neither the upstream nor a manifest tells the size, the answer waits for all of the blob."""
        self.upstream.reports_sizes = False
        waiting = self.begin_open()
        self.upstream.bodies[0].send(200)
        self.assertNoResult(waiting)
        self.finish()

        self.assertEqual(200, self.successResultOf(waiting).blob.size)

    def test_size_from_the_manifest(self) -> None:
        """Where a manifest tells the size, the answer does not wait for an upstream that does not."""
        self.link(UBUNTU)
        self.upstream.reports_sizes = False

        self.assertEqual(200, self.open().size)

    def test_stop(self) -> None:
        """When the daemon stops, running downloads are parked."""
        blob = self.open()
        self.upstream.bodies[0].send(120)
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
        self.upstream.bodies[0].send(150)
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
        self.begin_open(OTHER).addCallback(lambda result: result.blob.close())
        self.upstream.respond()
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

        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(self.open_result(OTHER).cache))
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
        self.upstream.respond()

        self.failureResultOf(first, BlobUnknown)
        self.assertEqual(200, self.successResultOf(second).blob.size)

    def test_unknown(self) -> None:
        """A blob that the upstream does not have is a 404."""
        self.upstream.blobs.clear()
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=404", self.failure(BlobUnknown).cache_status)

    def test_head(self) -> None:
        """HEAD of a miss asks by HEAD and begins no download; of a held blob it asks nobody."""
        self.assertEqual(BlobSizeResult, type(self.head()))
        self.assertEqual(0, self.upstream.count("GET blob"))
        self.open()
        self.assertEqual("mirrord; fwd=uri-miss; collapsed", str(self.head().cache))
        self.finish()

        self.assertEqual("mirrord; hit", str(self.head().cache))
        self.assertEqual(1, self.upstream.count("HEAD blob"))
