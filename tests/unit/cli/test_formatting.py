import time

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.formatting import format_count, format_duration, format_freshness, format_size


class FormattingTests(SynchronousTestCase):
    def test_size(self) -> None:
        """A size is formatted in the largest fitting unit."""
        formatted = [format_size(count) for count in (0, 1023, 1024, 1536 * 1024, 5 << 30, 3 << 40)]
        self.assertEqual(formatted, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB", "3.0 TiB"])

    def test_count(self) -> None:
        """A noun is in the plural unless there is one of it."""
        formatted = [
            format_count(*counted) for counted in ((1, "day"), (2, "day"), (0, "entry"), (1, "entry"))
        ]
        self.assertEqual(formatted, ["1 day", "2 days", "0 entries", "1 entry"])

    def test_duration(self) -> None:
        """A duration is formatted in whole numbers of the largest fitting unit."""
        formatted = [format_duration(seconds) for seconds in (-1, 0.9, 1, 59, 60, 7300, 86_400 * 40)]
        self.assertEqual(
            formatted,
            [
                "less than a second",
                "less than a second",
                "1 second",
                "59 seconds",
                "1 minute",
                "2 hours",
                "40 days",
            ],
        )

    def test_freshness(self) -> None:
        """A tag is fresh for some time, or was checked some time ago, or is not cached."""
        now = time.time()
        self.assertEqual(format_freshness({"fresh_until": now + 120.5}), "fresh for 2 minutes")
        self.assertEqual(
            format_freshness({"fresh_until": now - 1, "checked_at": now - 60}), "checked 1 minute ago"
        )
        self.assertEqual(format_freshness({"is_held": False, "fresh_until": now + 60}), "not cached")
        self.assertEqual(format_freshness({}), "never checked")
