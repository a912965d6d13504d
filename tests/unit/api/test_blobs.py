"""Tests of mirrord/api/blobs.py."""

import os

from twisted.internet.defer import Deferred

from mirrord.api.body_streams import CHUNK_BYTES
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import UpstreamTimeout
from tests.fakes.fake_repositories import FakeBlob, FakeRangeBody
from tests.fakes.wire import head
from tests.unit.api.cases import APICase

CONTENT = os.urandom(1000)


class BlobCase(APICase):
    def setUp(self) -> None:
        super().setUp()
        self.add(CONTENT)

    def add(self, content: bytes, readable: int | None = None, body: bytes | None = None) -> FakeBlob:
        self.digest, self.blob = self.repositories.add_blob(content, readable, body=body)
        self.path = f"/v2/library/x/blobs/{self.digest}"
        return self.blob


class WholeTests(BlobCase):
    def test_headers(self) -> None:
        """A blob is immutable octets, and available in ranges."""
        got = self.get(self.path)

        self.assertEqual((200, CONTENT), (got.status, got.body))
        self.assertEqual("application/octet-stream", got.headers["content-type"])
        self.assertEqual("1000", got.headers["content-length"])
        self.assertEqual(str(self.digest), got.headers["docker-content-digest"])
        self.assertEqual(f'"{self.digest}"', got.headers["etag"])
        self.assertEqual("bytes", got.headers["accept-ranges"])
        self.assertEqual("max-age=31536000, immutable", got.headers["cache-control"])
        self.assertEqual("mirrord; hit", got.headers["cache-status"])
        self.assertTrue(self.blob.is_closed)
        self.assertEqual((1.0, 1000.0), (self.counted("blob", "hit"), self.sent))

    def test_memory(self) -> None:
        """A small blob is sent from memory, and closed."""
        self.add(CONTENT, body=CONTENT)

        self.assertEqual(CONTENT, self.get(self.path).body)
        self.assertTrue(self.blob.is_closed)

    def test_empty(self) -> None:
        """An empty blob has a length, and no ranges."""
        self.add(b"")

        got = self.get(self.path)
        self.assertEqual((200, "0"), (got.status, got.headers["content-length"]))
        self.assertEqual(416, self.get(self.path, "Range: bytes=0-").status)

    def test_head(self) -> None:
        """HEAD has the headers of GET, and opens no blob."""
        headers = self.get(self.path).headers

        self.assertEqual(headers, self.get(self.path, "Range: bytes=0-1", method="HEAD").headers)
        self.assertEqual("head", self.repositories.requests[-1][0])

    def test_head_of_unknown_size(self) -> None:
        """If the upstream does not report the size, the response to HEAD has none."""
        self.repositories.reports_size = False

        got = self.get(self.path, method="HEAD")

        self.assertEqual(200, got.status)
        self.assertNotIn("content-length", got.headers)

    def test_not_modified(self) -> None:
        """A client that has the blob gets a 304, and nothing is downloaded."""
        got = self.get(self.path, f'If-None-Match: "{self.digest}"')

        self.assertEqual((304, b""), (got.status, got.body))
        self.assertEqual(["head"], [method for method, *_ in self.repositories.requests])

    def test_unknown(self) -> None:
        """A blob that the upstream does not have is unknown."""
        self.repositories.blobs.clear()

        self.assert_error(self.get(self.path), 404, "BLOB_UNKNOWN")


class RangeTests(BlobCase):
    def test_single(self) -> None:
        """A single range is a 206 with its position."""
        got = self.get(self.path, "Range: bytes=100-199")

        self.assertEqual((206, CONTENT[100:200]), (got.status, got.body))
        self.assertEqual("bytes 100-199/1000", got.headers["content-range"])
        self.assertEqual("100", got.headers["content-length"])
        self.assertEqual("application/octet-stream", got.headers["content-type"])

    def test_memory(self) -> None:
        """Ranges of a small blob are sent from memory."""
        self.add(CONTENT, body=CONTENT)

        self.assertEqual(CONTENT[-7:], self.get(self.path, "Range: bytes=-7").body)
        self.assertIn(CONTENT[2:4], self.get(self.path, "Range: bytes=0-0,2-3").body)

    def test_several(self) -> None:
        """Several ranges are one multipart body, in the requested order."""
        got = self.get(self.path, "Range: bytes=900-,0-1")

        self.assertEqual(206, got.status)
        self.assertEqual("multipart/byteranges; boundary=0b0b", got.headers["content-type"])
        expected = (
            b"--0b0b\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 900-999/1000\r\n\r\n"
            + CONTENT[900:]
            + b"\r\n--0b0b\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-1/1000\r\n\r\n"
            + CONTENT[:2]
            + b"\r\n--0b0b--\r\n"
        )
        self.assertEqual(expected, got.body)
        self.assertNotIn("content-range", got.headers)

    def test_unsatisfiable(self) -> None:
        """A range beyond the end is a 416 with the size."""
        for header in ("bytes=1000-", "bytes=500-0"):
            got = self.get(self.path, f"Range: {header}")

            self.assert_error(got, 416, "RANGE_INVALID")
            self.assertEqual("bytes */1000", got.headers["content-range"])
            self.assertTrue(self.blob.is_closed)

    def test_ignored(self) -> None:
        """A malformed range, or one with another If-Range, is ignored."""
        self.assertEqual(200, self.get(self.path, "Range: lines=1-2").status)
        self.assertEqual(200, self.get(self.path, "Range: bytes=0-1", 'If-Range: "other"').status)
        self.assertEqual(206, self.get(self.path, "Range: bytes=0-1", f'If-Range: "{self.digest}"').status)

    def test_many_headers(self) -> None:
        """Ranges in several headers are one list, as for any header that is a list."""
        self.assertEqual(200, self.get(self.path, "Range: bytes=0-1", "Range: bytes=2-3").status)


class GrowingTests(BlobCase):
    def test_growth(self) -> None:
        """The headers are sent at once, the bytes as they are written."""
        self.add(CONTENT, readable=0)
        self.client.send(head(self.path))
        self.assertIn(b"Content-Length: 1000\r\n\r\n", self.wire.value())

        self.wire.clear()
        self.blob.grow(300)
        self.assertEqual(CONTENT[:300], self.wire.value())
        self.blob.grow(999)
        self.assertEqual(CONTENT[:999], self.wire.value())
        self.assertFalse(self.blob.is_closed)
        self.blob.grow(1000)

        self.assertEqual(CONTENT, self.wire.value())
        self.assertTrue(self.blob.is_closed)
        self.assertFalse(self.wire.disconnecting)

    def test_failure(self) -> None:
        """A failed download ends the response short of its Content-Length, without a reset."""
        self.add(CONTENT, readable=10)
        self.client.send(head(self.path) + head("/v2/"))

        self.blob.fail(UpstreamTimeout("silent"))

        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n" + CONTENT[:10]))
        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.wire.disconnected)
        self.assertTrue(self.blob.is_closed)
        self.assertEqual([], self.flushLoggedErrors())

    def test_stalled(self) -> None:
        """No more than one chunk is read ahead of a client that reads nothing."""
        content = os.urandom(3 * CHUNK_BYTES)
        self.add(content)
        self.wire.taking = False
        self.client.send(head(self.path))
        for written in range(1, 4):
            self.assertEqual(content[: written * CHUNK_BYTES], self.wire.value().partition(b"\r\n\r\n")[2])
            self.assertEqual(written == 3, self.blob.is_closed)
            if self.wire.producer is not None:
                self.wire.producer.resumeProducing()

    def test_disconnect(self) -> None:
        """If the client disconnects, the blob is closed, and its own wait is cancelled."""
        self.add(CONTENT, readable=10)
        self.client.send(head(self.path))

        self.client.leave()

        self.assertTrue(self.blob.is_closed)
        self.assertEqual(1, self.blob.cancelled)
        self.assertEqual([], self.flushLoggedErrors())

    def test_range(self) -> None:
        """An inner range is sent as soon as its bytes are written."""
        self.add(CONTENT, readable=0)
        self.client.send(head(self.path, "Range: bytes=100-199"))

        self.blob.grow(200)

        self.assertEqual(CONTENT[100:200], self.client.got().body)
        self.assertEqual([(100, 200)], self.blob.passed_ranges)

    def test_truncated(self) -> None:
        """A file that is shorter than its blob is not padded; it is logged, and the connection closed."""
        self.blob.truncate(500)

        self.client.send(head(self.path))

        self.assertTrue(self.wire.value().endswith(CONTENT[:500]))
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(1, len(self.flushLoggedErrors(EOFError)))


class FarTests(BlobCase):
    def setUp(self) -> None:
        super().setUp()
        self.add(CONTENT, readable=10)

    def test_passed(self) -> None:
        """A far range is passed through from the upstream, cut to the requested bytes."""
        self.blob.passed = FakeRangeBody(890, [CONTENT[890:905], CONTENT[905:990], CONTENT[990:]])

        got = self.get(self.path, "Range: bytes=900-989")

        self.assertEqual((206, CONTENT[900:990]), (got.status, got.body))
        self.assertEqual("mirrord; fwd=partial", got.headers["cache-status"])
        self.assertTrue(self.blob.is_closed)
        self.assertTrue(self.blob.passed.is_aborted)
        self.assertEqual(1.0, self.counted("blob", "partial"))

    def test_disconnect(self) -> None:
        """If the client disconnects while its range is being requested, the blob is closed."""
        self.blob.pause = Deferred()
        self.client.send(head(self.path, "Range: bytes=900-989"))
        self.assertFalse(self.blob.is_closed)

        self.client.leave()

        self.assertTrue(self.blob.is_closed)
        self.assertEqual([], self.flushLoggedErrors())

    def test_written(self) -> None:
        """A range that is written already is not passed through."""
        self.blob.passed = FakeRangeBody(0, [])

        self.assertEqual(CONTENT[2:5], self.get(self.path, "Range: bytes=2-4").body)
        self.assertEqual([], self.blob.passed_ranges)

    def test_ends_early(self) -> None:
        """A passed range that ends early ends the response short."""
        self.blob.passed = FakeRangeBody(900, [CONTENT[900:905]])

        self.client.send(head(self.path, "Range: bytes=900-989"))

        self.assertTrue(self.wire.value().endswith(CONTENT[900:905]))
        self.assertTrue(self.wire.disconnecting)

    def test_other_offset(self) -> None:
        """Bytes from another offset than the requested one are not sent."""
        self.blob.passed = FakeRangeBody(901, [CONTENT[901:]])

        self.client.send(head(self.path, "Range: bytes=900-989"))

        self.assertTrue(self.wire.value().endswith(b"\r\n\r\n"))
        self.assertTrue(self.wire.disconnecting)
        self.assertTrue(self.blob.passed.is_aborted)

    def test_back_pressure(self) -> None:
        """No more is read from the upstream than the client reads."""
        large = bytes(100_000)
        self.add(bytes(1_000_000), readable=10)
        self.blob.passed = FakeRangeBody(500_000, [large] * 5)
        self.wire.taking = False

        self.client.send(head(self.path, "Range: bytes=500000-"))
        self.assertEqual(1, self.blob.passed.reads)
        self.wire.producer.resumeProducing()
        self.assertEqual(2, self.blob.passed.reads)


class CacheStatusTests(BlobCase):
    def test_collapsed(self) -> None:
        """The cache status of a blob is reported and counted."""
        self.blob.cache = CacheResult.collapsed()

        self.assertEqual("mirrord; fwd=uri-miss; collapsed", self.get(self.path).headers["cache-status"])
        self.assertEqual(1.0, self.counted("blob", "collapsed"))
