"""Tests of mirrord/hosted/uploads.py."""

from twisted.internet.defer import CancelledError, Deferred

from mirrord.hosted.uploads import STRETCH_BYTES
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
from tests.fakes.repositories import FakeRequestBody
from tests.unit.hosted.cases import APP, OTHER, HostedCase

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)


class UploaderCase(HostedCase):
    def setUp(self) -> None:
        super().setUp()
        self.uploader = self.services.uploader
        self.uploads = self.store.opened.uploads
        self.session = self.successResultOf(Deferred.fromCoroutine(self.uploader.begin(APP, "ann"))).session

    def append(self, body: FakeRequestBody, chunk: ChunkRange | None = None) -> "Deferred[UploadProgress]":
        return Deferred.fromCoroutine(self.uploader.append(APP, self.session, body, chunk))

    def finish(self, body: FakeRequestBody | None = None, digest: Digest = DIGEST) -> "Deferred[None]":
        finishing = self.uploader.finish(
            APP, self.session, digest, body=body or FakeRequestBody.of(b""), chunk=None
        )
        return Deferred.fromCoroutine(finishing)

    def assert_rejected(
        self, body: FakeRequestBody, error: type[Exception], chunk: ChunkRange | None = None
    ) -> None:
        """Check that nothing of a body is read, and that the session is released."""
        self.failureResultOf(self.append(body, chunk), error)
        self.assertFalse(body.is_read)
        self.uploader.progress(APP, self.session)


class ChunkTests(UploaderCase):
    def test_chunks(self) -> None:
        """Consecutive chunks become the blob."""
        self.successResultOf(self.append(FakeRequestBody.of(CONTENT[:4]), ChunkRange(0, 4)))
        progress = self.successResultOf(self.append(FakeRequestBody.of(CONTENT[4:]), ChunkRange(4, 10)))
        self.successResultOf(self.finish())

        self.assertEqual(10, progress.offset)
        self.assertEqual(CONTENT, self.store.blob(DIGEST))

    def test_out_of_order(self) -> None:
        """A chunk out of order is rejected unread, with the progress of the upload."""
        self.successResultOf(self.append(FakeRequestBody.of(CONTENT[:4])))
        body = FakeRequestBody.of(CONTENT[5:])
        failure = self.failureResultOf(self.append(body, ChunkRange(5, 10)), ChunkOutOfOrder)

        self.assertEqual(UploadProgress(self.session, 4), failure.value.progress)
        self.assertFalse(body.is_read)

    def test_length(self) -> None:
        """A chunk that is not as long as its range is rejected; one of unknown length at its end."""
        self.assert_rejected(FakeRequestBody.of(CONTENT), SizeInvalid, ChunkRange(0, 9))
        self.failureResultOf(self.append(FakeRequestBody([CONTENT]), ChunkRange(0, 9)), SizeInvalid)

    def test_ranges(self) -> None:
        """A Content-Range may have the form of docker, of the specification or of RFC 9110."""
        for text in ("0-99", "bytes 0-99/100", "bytes=0-99", " 0-99 ", "0-99/*"):
            self.assertEqual(ChunkRange(0, 100), ChunkRange.parse(text))
        for text in ("", "0-", "-9", "9-0", "a-b", "0-99,200-299", f"0-{10**30}"):
            self.assertRaises(BlobUploadInvalid, ChunkRange.parse, text)


class SessionTests(UploaderCase):
    def test_disconnect(self) -> None:
        """If the client disconnects, its bytes are kept, and the session is released."""
        self.failureResultOf(self.append(FakeRequestBody([CONTENT[:4]], 10, breaks=True)), CancelledError)

        self.assertEqual(4, self.uploader.progress(APP, self.session).offset)
        self.successResultOf(self.finish(FakeRequestBody.of(CONTENT[4:])))
        self.assertEqual(CONTENT, self.store.blob(DIGEST))

    def test_full_disk(self) -> None:
        """A failed write does not change the session."""
        self.store.threads.failures["append"] = OSError("full")
        self.failureResultOf(self.append(FakeRequestBody.of(CONTENT)), OSError)

        self.assertEqual(0, self.uploader.progress(APP, self.session).offset)

    def test_unknown(self) -> None:
        """A session that is over, or of another repository, is unknown."""
        self.assertRaises(BlobUploadUnknown, self.uploader.progress, OTHER, self.session)
        self.successResultOf(Deferred.fromCoroutine(self.uploader.cancel(APP, self.session)))

        self.assertRaises(BlobUploadUnknown, self.uploader.progress, APP, self.session)
        self.failureResultOf(self.append(FakeRequestBody.of(CONTENT)), BlobUploadUnknown)
        self.failureResultOf(self.finish(), BlobUploadUnknown)

    def test_busy(self) -> None:
        """A session is used by one request at a time."""
        upload = self.successResultOf(Deferred.fromCoroutine(self.uploads.find(APP, self.session)))
        assert upload is not None
        self.assertRaises(UploadBusy, self.uploader.progress, APP, self.session)

        upload.release()
        self.assertEqual(0, self.uploader.progress(APP, self.session).offset)

    def test_wrong_digest(self) -> None:
        """If the bytes do not match the digest, the session stays."""
        self.successResultOf(self.append(FakeRequestBody.of(CONTENT)))
        self.failureResultOf(self.finish(digest=Digest.of(b"other")), DigestInvalid)

        self.assertFalse(self.store.has(Digest.of(b"other")))

        self.successResultOf(self.finish())
        self.assertEqual(CONTENT, self.store.blob(DIGEST))

    def test_single_request(self) -> None:
        """A blob that is sent in one request leaves no session, whether it is valid or not."""
        for body in (
            FakeRequestBody.of(CONTENT),
            FakeRequestBody.of(b"other"),
            FakeRequestBody([b"x"], 9, breaks=True),
        ):
            Deferred.fromCoroutine(self.uploader.push(APP, DIGEST, body, "ann")).addErrback(
                lambda failure: failure.trap(DigestInvalid, CancelledError)
            )
        self.assertEqual(1, self.uploads.total_entries)
        self.uploader.progress(APP, self.session)
        self.assertEqual(CONTENT, self.store.blob(DIGEST))


class LimitTests(UploaderCase):
    def test_too_large(self) -> None:
        """A blob that is too large is rejected by its length, or as soon as it is too long."""
        self.repositories.max_upload_bytes = 9
        self.uploader = self.repositories.hosted_services().uploader
        self.assert_rejected(FakeRequestBody.of(CONTENT), ContentTooLarge)
        self.failureResultOf(self.append(FakeRequestBody([CONTENT[:5], CONTENT[5:]])), ContentTooLarge)

        self.assertEqual(5, self.uploader.progress(APP, self.session).offset)

    def test_no_room(self) -> None:
        """Without room for a whole body nothing of it is read; of one of unknown length nothing is kept."""
        self.space.free = 9
        self.assert_rejected(FakeRequestBody.of(CONTENT), Unavailable)
        self.failureResultOf(self.append(FakeRequestBody([CONTENT])), Unavailable)

        self.assertEqual([10, STRETCH_BYTES], self.space.pushes)
        self.assertEqual(0, self.uploader.progress(APP, self.session).offset)

    def test_stretches(self) -> None:
        """Room for a body of unknown length is requested in stretches, not for each chunk."""
        self.successResultOf(self.append(FakeRequestBody([b"x"] * 100)))

        self.assertEqual([STRETCH_BYTES], self.space.pushes)

    def test_long_body(self) -> None:
        """Room for a long body is requested again on the way, as other clients push too."""
        half = bytes(STRETCH_BYTES // 2)
        self.successResultOf(self.append(FakeRequestBody([half, half, half], len(half) * 3)))

        self.assertEqual([len(half) * 3, STRETCH_BYTES, len(half)], self.space.pushes)
