"""Uploads take bytes in order, keep what they have, and are bounded before they fill the disk."""

from twisted.internet.defer import CancelledError, Deferred

from mirrord.hosted.space import STRETCH_BYTES
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    BlobUploadInvalid,
    BlobUploadUnknown,
    ContentTooLarge,
    DigestInvalid,
    SizeInvalid,
    Unavailable,
    UploadBusy,
)
from mirrord.oci.routes import ChunkRange
from mirrord.repository import ChunkOutOfOrder, UploadProgress
from tests.unit.hosted.cases import APP, OTHER, FakeBody, PushCase

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)


class UploadCase(PushCase):
    def setUp(self) -> None:
        super().setUp()
        self.uploader = self.services.uploader
        self.uploads = self.hosting.uploads
        self.session = self.uploader.begin(APP).session

    def append(self, body: FakeBody, span: ChunkRange | None = None) -> "Deferred[UploadProgress]":
        return Deferred.fromCoroutine(self.uploader.append(APP, self.session, body, span))

    def finish(self, body: FakeBody | None = None, digest: Digest = DIGEST) -> "Deferred[None]":
        finishing = self.uploader.finish(APP, self.session, digest, body=body or FakeBody.of(b""), chunk=None)
        return Deferred.fromCoroutine(finishing)

    def assert_refused(self, body: FakeBody, error: type[Exception], span: ChunkRange | None = None) -> None:
        """It is refused by its head: nothing of it is read, and the session can be had again."""
        self.failureResultOf(self.append(body, span), error)
        self.assertFalse(body.is_read)
        self.uploader.progress(APP, self.session)


class OrderTests(UploadCase):
    def test_chunks(self) -> None:
        """Chunks that follow each other make the blob."""
        self.successResultOf(self.append(FakeBody.of(CONTENT[:4]), ChunkRange(0, 4)))
        progress = self.successResultOf(self.append(FakeBody.of(CONTENT[4:]), ChunkRange(4, 10)))
        self.successResultOf(self.finish())

        self.assertEqual(10, progress.offset)
        self.assertEqual(CONTENT, self.index.blobs.committed[DIGEST])

    def test_out_of_order(self) -> None:
        """A chunk that does not follow is told where the upload is, unread."""
        self.successResultOf(self.append(FakeBody.of(CONTENT[:4])))
        body = FakeBody.of(CONTENT[5:])
        failure = self.failureResultOf(self.append(body, ChunkRange(5, 10)), ChunkOutOfOrder)

        self.assertEqual(UploadProgress(self.session, 4), failure.value.progress)
        self.assertFalse(body.is_read)

    def test_length(self) -> None:
        """A chunk that is not as long as its range is refused; one of unknown length when it has ended."""
        self.assert_refused(FakeBody.of(CONTENT), SizeInvalid, ChunkRange(0, 9))
        self.failureResultOf(self.append(FakeBody([CONTENT]), ChunkRange(0, 9)), SizeInvalid)

    def test_spans(self) -> None:
        """A Content-Range reads as docker, the specification or RFC 9110 writes it."""
        for text in ("0-99", "bytes 0-99/100", "bytes=0-99", " 0-99 ", "0-99/*"):
            self.assertEqual(ChunkRange(0, 100), ChunkRange.parse(text))
        for text in ("", "0-", "-9", "9-0", "a-b", "0-99,200-299", f"0-{10**30}"):
            self.assertRaises(BlobUploadInvalid, ChunkRange.parse, text)


class SessionTests(UploadCase):
    def test_broken(self) -> None:
        """A client that leaves keeps what it had sent, and lets go of the session."""
        self.failureResultOf(self.append(FakeBody([CONTENT[:4]], 10, breaks=True)), CancelledError)

        self.assertEqual(4, self.uploader.progress(APP, self.session).offset)
        self.successResultOf(self.finish(FakeBody.of(CONTENT[4:])))
        self.assertIn(DIGEST, self.index.blobs.committed)

    def test_refusing_disk(self) -> None:
        """A disk that refuses leaves the session where it was."""
        self.uploads.refusals = [OSError("full")]
        self.failureResultOf(self.append(FakeBody.of(CONTENT)), OSError)

        self.assertEqual(0, self.uploader.progress(APP, self.session).offset)

    def test_unknown(self) -> None:
        """A session that is over, or of another repository, is unknown to every question."""
        self.assertRaises(BlobUploadUnknown, self.uploader.progress, OTHER, self.session)
        self.successResultOf(Deferred.fromCoroutine(self.uploader.cancel(APP, self.session)))

        self.assertRaises(BlobUploadUnknown, self.uploader.progress, APP, self.session)
        self.failureResultOf(self.append(FakeBody.of(CONTENT)), BlobUploadUnknown)
        self.failureResultOf(self.finish(), BlobUploadUnknown)

    def test_busy(self) -> None:
        """While a request has the session, no other gets it."""
        self.uploads.sessions[self.session].is_busy = True

        self.assertRaises(UploadBusy, self.uploader.progress, APP, self.session)

    def test_wrong_digest(self) -> None:
        """Other bytes than the digest names are no blob; the session stays for the right one."""
        self.successResultOf(self.append(FakeBody.of(CONTENT)))
        self.failureResultOf(self.finish(digest=Digest.of(b"other")), DigestInvalid)

        self.successResultOf(self.finish())

    def test_one_piece(self) -> None:
        """A blob that comes in one request leaves no session, whether it is right or wrong or broken."""
        for body in (FakeBody.of(CONTENT), FakeBody.of(b"other"), FakeBody([b"x"], 9, breaks=True)):
            Deferred.fromCoroutine(self.uploader.push(APP, DIGEST, body)).addErrback(
                lambda failure: failure.trap(DigestInvalid, CancelledError)
            )
        self.assertEqual([self.session], list(self.uploads.sessions))
        self.assertEqual(CONTENT, self.index.blobs.committed[DIGEST])


class BoundTests(UploadCase):
    def test_too_large(self) -> None:
        """A blob of more bytes than are allowed is refused by its length, or where it gets too long."""
        self.hosting.max_bytes = 9
        self.uploader = self.hosting.services().uploader
        self.assert_refused(FakeBody.of(CONTENT), ContentTooLarge)
        self.failureResultOf(self.append(FakeBody([CONTENT[:5], CONTENT[5:]])), ContentTooLarge)

        self.assertEqual(5, self.uploader.progress(APP, self.session).offset)

    def test_no_room(self) -> None:
        """Without room for all of a body nothing of it is read; of one of unknown length nothing is kept."""
        self.hosting.room.free = 9
        self.assert_refused(FakeBody.of(CONTENT), Unavailable)
        self.failureResultOf(self.append(FakeBody([CONTENT])), Unavailable)

        self.assertEqual([10, STRETCH_BYTES], self.hosting.room.asked)
        self.assertEqual(0, self.uploader.progress(APP, self.session).offset)

    def test_asks_ahead(self) -> None:
        """Room for a body of unknown length is asked for a stretch at a time, not for each chunk."""
        self.successResultOf(self.append(FakeBody([b"x"] * 100)))

        self.assertEqual([STRETCH_BYTES], self.hosting.room.asked)

    def test_asks_again(self) -> None:
        """While a long body comes it is looked at again whether there is room: others push too."""
        half = bytes(STRETCH_BYTES // 2)
        self.successResultOf(self.append(FakeBody([half, half, half], len(half) * 3)))

        self.assertEqual([len(half) * 3, STRETCH_BYTES, len(half)], self.hosting.room.asked)
