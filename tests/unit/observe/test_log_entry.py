"""Tests of mirrord/observe/log_entry.py."""

import json

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.events import Event
from mirrord.observe.log_entry import FIELDS, LEVELS, MAX_MESSAGE, LogEntry
from mirrord.oci.digest import Digest

DIGEST = Digest.of(b"x")
AT = 1_795_233_600.1239


class LogEntryTests(SynchronousTestCase):
    """The entry for an event."""

    def test_fields(self) -> None:
        """Only known fields are logged; other values of a call are in its message or nowhere."""
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
                at=5.5,
                level="warn",
                message="docker.io shown",
                fields={"upstream": "docker.io", "digest": str(DIGEST), "bytes": 7, "seconds": 0.123457},
                event=Event.PULLED,
            ),
        )

    def test_levels(self) -> None:
        """Every level of Twisted has a priority, and an event without one is info."""
        for level in LogLevel.iterconstants():
            self.assertIn(level.name, LEVELS)
            self.assertEqual(level.name, LogEntry.of({"log_level": level}).level)
        self.assertEqual("info", LogEntry.of({"log_format": "old"}).level)

    def test_no_forged_lines(self) -> None:
        """Nothing in a message or a field can begin a line or control a terminal."""
        text, escaped = "a\nb\rc\x1b[2Jd\u2028e\x85f\ud800 é", "a\\nb\\rc\\x1b[2Jd\\u2028e\\x85f\\ud800 é"
        entry = LogEntry.of({"log_format": "{client}", "client": text})
        self.assertEqual((escaped, escaped), (entry.message, entry.fields["client"]))

    def test_failure(self) -> None:
        """A traceback has lines, which cannot control a terminal either."""
        try:
            raise ValueError("bad\x1b")
        except ValueError:
            entry = LogEntry.of({"log_format": "it failed", "log_failure": Failure()})
        self.assertEqual("it failed", entry.message)
        self.assertTrue(entry.traceback.startswith("Traceback"))
        self.assertTrue(entry.traceback.endswith("ValueError: bad\\x1b"), entry.traceback)

    def test_unformattable(self) -> None:
        """An event that cannot be formatted is logged as such, without an exception."""
        self.assertIn("Unable to format event", LogEntry.of({"log_format": "{missing}"}).message)

    def test_long(self) -> None:
        """A long message is cut."""
        self.assertEqual(MAX_MESSAGE, len(LogEntry.of({"log_format": "{x}", "x": "y" * 100_000}).message))


class FormatTests(SynchronousTestCase):
    """The formats of an entry."""

    def test_text(self) -> None:
        """Text is a line of time, level and message, and then the traceback."""
        entry = LogEntry(
            at=AT, level="warn", message="careful", fields={"client": "10.0.0.1"}, traceback="Traceback\nE: x"
        )
        self.assertEqual("2026-11-21T04:00:00.123Z warn     careful\nTraceback\nE: x\n", entry.as_text())

    def test_json(self) -> None:
        """JSON is a line with an object, which has the fields under their own names."""
        entry = LogEntry(
            at=AT,
            level="info",
            message='a "b" é',
            fields={"bytes": 5, "client": "x"},
            event=Event.PULLED,
            traceback="Traceback\nE: x",
        )
        line = entry.as_json()
        self.assertEqual((1, True), (line.count("\n"), line.isascii()))
        self.assertEqual(
            {
                "time": "2026-11-21T04:00:00.123Z",
                "level": "info",
                "message": 'a "b" é',
                "event": "pulled",
                "bytes": 5,
                "client": "x",
                "traceback": "Traceback\nE: x",
            },
            json.loads(line),
        )


class EventTests(SynchronousTestCase):
    """The kinds of events."""

    def test_ids(self) -> None:
        """Every kind has its own ID in the form of the journal: 128 bits in lower-case hex."""
        for event in Event:
            self.assertRegex(event.value, "^[0-9a-f]{32}$")
        self.assertEqual(len(Event), len({event.value for event in Event}))

    def test_names(self) -> None:
        """No field has the name of one of the journal's own."""
        for name in FIELDS.values():
            self.assertRegex(name, "^MIRRORD_[A-Z]+$")
