"""Tests of mirrord/observe/entry.py."""

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.entry import FIELDS, LEVELS, MAX_MESSAGE, LogEntry
from mirrord.observe.events import Event
from mirrord.oci.digest import Digest

DIGEST = Digest.of(b"x")


class EntryTests(SynchronousTestCase):
    """What is told of an event."""

    def test_fields(self) -> None:
        """Fields are told by a whitelist: what else a call names is in its message or nowhere."""
        event = {
            "log_format": "{upstream} {password}",
            "log_time": 5.5,
            "log_level": LogLevel.warn,
            "event": Event.PULLED,
            "upstream": "docker.io",
            "digest": DIGEST,
            "bytes": 7,
            "seconds": 0.123456789,
            "reference": None,
            "password": "shown",
            "url": "https://cdn.example/?signature=x",
        }

        entry = LogEntry.of(event)

        self.assertEqual(
            entry,
            LogEntry(
                5.5,
                "warn",
                "docker.io shown",
                {"upstream": "docker.io", "digest": str(DIGEST), "bytes": 7, "seconds": 0.123457},
                Event.PULLED,
            ),
        )

    def test_levels(self) -> None:
        """Every level of Twisted's has a priority, and what has no level is info."""
        for level in LogLevel.iterconstants():
            self.assertEqual(LEVELS[level.name], LogEntry.of({"log_level": level}).priority)
        self.assertEqual("info", LogEntry.of({"log_format": "old"}).level)

    def test_no_forged_lines(self) -> None:
        """Nothing in a message or a field begins a line or steers a terminal."""
        text, told = "a\nb\rc\x1b[2Jd\u2028e\x85f\ud800 é", "a\\nb\\rc\\x1b[2Jd\\u2028e\\x85f\\ud800 é"
        entry = LogEntry.of({"log_format": "{client}", "client": text})
        self.assertEqual((told, told), (entry.message, entry.fields["client"]))

    def test_failure(self) -> None:
        """A failure's traceback has lines, in which nothing steers a terminal either."""
        try:
            raise ValueError("bad\x1b")
        except ValueError:
            entry = LogEntry.of({"log_format": "it failed", "log_failure": Failure()})
        self.assertEqual("it failed", entry.message)
        self.assertTrue(entry.traceback.startswith("Traceback"))
        self.assertTrue(entry.traceback.endswith("ValueError: bad\\x1b"), entry.traceback)

    def test_unformattable(self) -> None:
        """An event that cannot be formatted is told as such, and nothing is raised."""
        self.assertIn("Unable to format event", LogEntry.of({"log_format": "{missing}"}).message)

    def test_long(self) -> None:
        """What an upstream says at great length is cut."""
        self.assertEqual(MAX_MESSAGE, len(LogEntry.of({"log_format": "{x}", "x": "y" * 100_000}).message))


class EventTests(SynchronousTestCase):
    """The kinds of events."""

    def test_ids(self) -> None:
        """Every kind has an id of its own, as the journal wants it: 128 bits in lower-case hex."""
        for event in Event:
            self.assertRegex(event.value, "^[0-9a-f]{32}$")
        self.assertEqual(len(Event), len({event.value for event in Event}))

    def test_names(self) -> None:
        """No field of ours has the name of one of the journal's own."""
        for name in FIELDS.values():
            self.assertRegex(name, "^MIRRORD_[A-Z]+$")
