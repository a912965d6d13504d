"""Tests of mirrord/upstream/ranges.py."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.ranges import ContentRange, Validator, range_header


class RangeTests(SynchronousTestCase):
    def test_asking(self) -> None:
        """A range is asked for by its last byte, and the whole by nothing."""
        self.assertIsNone(range_header(0, None))
        self.assertEqual("bytes=5-", range_header(5, None))
        self.assertEqual("bytes=0-0", range_header(0, 1))

    def test_content_range(self) -> None:
        """What a Content-Range says is read, also of unknown size and of nothing; nonsense is none."""
        self.assertEqual(ContentRange(5, 10, 10), ContentRange.parse("bytes 5-9/10"))
        self.assertEqual(ContentRange(0, 1, None), ContentRange.parse("bytes 0-0/*"))
        self.assertEqual(ContentRange(None, None, 0), ContentRange.parse("bytes */0"))
        for text in [None, "", "bytes 9-5/10", "bytes 5-10/10", "items 0-1/2", "bytes 0-1"]:
            self.assertIsNone(ContentRange.parse(text), text)

    def test_validator(self) -> None:
        """A strong ETag is kept with its origin; a weak one is worth nothing."""
        origin = WebOrigin.of("https://cdn.example")
        validator = Validator.of(origin, '"abc"')
        self.assertEqual('https://cdn.example "abc"', str(validator))
        self.assertEqual(validator, Validator.parse(str(validator)))
        self.assertIsNone(Validator.of(origin, 'W/"abc"'))
        self.assertIsNone(Validator.parse("nonsense"))
        self.assertIsNone(Validator.parse(None))
