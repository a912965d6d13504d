"""Tests of mirrord/api/ranges.py."""

import re
from email.parser import BytesParser

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.http import parse_range_header

from mirrord.api.ranges import MAX_RANGES, ByteRange, multipart, select

POSITIONS = st.integers(0, 120)
SPECS = st.one_of(
    st.tuples(POSITIONS, POSITIONS).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    POSITIONS.map(lambda first: f"{first}-"),
    POSITIONS.map(lambda count: f"-{count}"),
)


def covered(header: str, size: int) -> list[tuple[int, int]] | None:
    """Return the ranges that werkzeug parses, clamped to `size`; None if it rejects the header."""
    parsed = parse_range_header(header)
    if parsed is None:
        return None
    ranges = []
    for first, stop in parsed.ranges:
        if first < 0:
            ranges.append((max(0, size + first), size))
        else:
            ranges.append((first, min(size if stop is None else stop, size)))
    return [(first, stop) for first, stop in ranges if first < stop]


class SelectTests(SynchronousTestCase):
    def test_single(self) -> None:
        """A range has a first and a last byte, only a first, or a length from the end."""
        self.assertEqual((ByteRange(2, 6),), select("bytes=2-5", 10))
        self.assertEqual((ByteRange(2, 10),), select("bytes=2-", 10))
        self.assertEqual((ByteRange(7, 10),), select("bytes=-3", 10))

    def test_clamped(self) -> None:
        """A range is cut at the end of the blob, however many digits it has."""
        self.assertEqual((ByteRange(2, 10),), select("bytes=2-99", 10))
        self.assertEqual((ByteRange(0, 10),), select("bytes=-99", 10))
        self.assertEqual((ByteRange(2, 10),), select("bytes=2-" + "9" * 5000, 10))
        self.assertEqual((ByteRange(2, 10),), select("bytes=" + "0" * 5000 + "2-", 10))

    def test_unsatisfiable(self) -> None:
        """A range without a byte, or one that ends before it begins, cannot be satisfied."""
        for header in ("bytes=10-", "bytes=10-12", "bytes=-0", "bytes=5-2", "bytes=500-0", "bytes=10-,-0"):
            with self.subTest(header=header):
                self.assertEqual((), select(header, 10))
        self.assertEqual((), select("bytes=0-", 0))

    def test_ignored(self) -> None:
        """A header of another unit, or malformed, is ignored."""
        for header in (
            "items=0-1",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=a-b",
            "bytes=1",
            "bytes=-",
            "bytes=0-1;",
        ):
            with self.subTest(header=header):
                self.assertIsNone(select(header, 10))
        self.assertIsNone(select("bytes=0-1,x", 10))
        self.assertIsNone(select("bytes=\u0661-\u0662", 10), "only ASCII digits are digits")

    def test_several(self) -> None:
        """Several ranges keep their order, and are not merged; empty elements are skipped."""
        self.assertEqual(
            (ByteRange(5, 7), ByteRange(0, 2), ByteRange(1, 3)), select("bytes=5-6, ,0-1,\t1-2", 10)
        )

    def test_some_unsatisfiable(self) -> None:
        """Ranges that cannot be satisfied are left out if others can."""
        self.assertEqual((ByteRange(0, 2),), select("Bytes=0-1,20-30", 10))

    def test_caps(self) -> None:
        """For more ranges than podman requests, or more than twice the blob, the whole blob is sent."""
        self.assertEqual(1024, MAX_RANGES)
        many = ",".join(["0-0"] * MAX_RANGES)
        self.assertEqual(MAX_RANGES, len(select(f"bytes={many}", 10_000) or ()))
        self.assertIsNone(select(f"bytes={many},0-0", 10_000))
        self.assertEqual(2, len(select("bytes=0-,0-", 10) or ()))
        self.assertIsNone(select("bytes=0-,0-,0-0", 10))

    @given(st.text("bytes=0123456789-, \tx", max_size=40), st.integers(0, 100))
    @example("bytes=-", 1)
    def test_anything(self, header: str, size: int) -> None:
        """Each range has bytes and lies inside the blob, for any header."""
        for one in select(header, size) or ():
            self.assertTrue(0 <= one.first < one.stop <= size)

    @given(st.lists(SPECS, min_size=1, max_size=4), st.integers(1, 100))
    def test_oracle(self, specs: list[str], size: int) -> None:
        """The bytes are those that werkzeug parses."""
        header = f"bytes={','.join(specs)}"
        expected = covered(header, size)
        ranges = select(header, size)
        if expected is None or ranges is None:
            return

        self.assertEqual(expected, [(one.first, one.stop) for one in ranges])


class MultipartTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=2, max_size=5))
    def test_parsed_by_others(self, pairs: list[tuple[int, int]]) -> None:
        """A MIME parser finds every range in order; the length is known in advance."""
        content = bytes(range(100))
        ranges = [ByteRange(first, first + count) for first, count in pairs]

        parts = multipart(ranges, 100, "application/octet-stream", "0a1b2c")
        body = b"".join(
            part if isinstance(part, bytes) else content[part.first : part.stop] for part in parts
        )

        self.assertEqual(sum(map(len, parts)), len(body))
        message = BytesParser().parsebytes(
            b"Content-Type: multipart/byteranges; boundary=0a1b2c\r\n\r\n" + body
        )
        heads = [str(part["Content-Range"]) for part in message.walk() if not part.is_multipart()]
        self.assertEqual([one.content_range(100) for one in ranges], heads)
        # The MIME parser changes line ends, so the bytes are counted by hand.
        pieces = re.split(rb"(?:\r\n)?--0a1b2c(?:--)?\r\n", body)[1:-1]
        bodies = [piece.split(b"\r\n\r\n", 1)[1] for piece in pieces]
        self.assertEqual([content[one.first : one.stop] for one in ranges], bodies)
