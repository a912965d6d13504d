"""Tests of mirrord/observe/lines.py."""

import json
import os

from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.entry import LogEntry
from mirrord.observe.events import Event
from mirrord.observe.lines import LineStream, json_line, text_line

AT = 1_795_233_600.1239


class FormTests(SynchronousTestCase):
    """How an entry is written."""

    def test_text(self) -> None:
        """Text is time, level and message on a line, and then a traceback."""
        entry = LogEntry(AT, "warn", "careful", {"client": "10.0.0.1"}, traceback="Traceback\nE: x")
        self.assertEqual("2026-11-21T04:00:00.123Z warn     careful\nTraceback\nE: x\n", text_line(entry))

    def test_json(self) -> None:
        """JSON is an object on a line, with the fields under their own names."""
        entry = LogEntry(AT, "info", 'a "b" é', {"bytes": 5, "client": "x"}, Event.PULLED, "Traceback\nE: x")
        line = json_line(entry)
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


class StreamTests(SynchronousTestCase):
    """A pipe that may have a reader or not."""

    def setUp(self) -> None:
        self.reader, self.writer = os.pipe()
        self.addCleanup(os.close, self.writer)
        self.stream = LineStream(self.writer)

    def test_through(self) -> None:
        """What is written arrives, longer than a pipe takes at once too."""
        self.addCleanup(os.close, self.reader)
        line = "é" * 5_000 + "\n"
        self.assertTrue(self.stream.write(line))
        self.assertEqual(line.encode(), os.read(self.reader, 100_000))

    def test_full(self) -> None:
        """A pipe that nobody reads is not waited for, and the next line begins on a line of its own."""
        self.addCleanup(os.close, self.reader)
        while self.stream.write("x" * 9_000 + "\n"):
            pass
        self.assertFalse(self.stream.write("lost\n"))

        os.read(self.reader, 1 << 20)
        self.assertTrue(self.stream.write("seen\n"))

        self.assertEqual(b"\nseen\n", os.read(self.reader, 100))

    def test_gone(self) -> None:
        """A reader that has gone is no error of ours."""
        os.close(self.reader)
        self.assertFalse(self.stream.write("lost\n"))
