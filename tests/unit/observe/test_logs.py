"""Logs: lines of text."""

from io import StringIO
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mirrord.observe.logs import TextObserver, observer


class TextTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = StringIO()
        self.observer = TextObserver(self.stream)

    def emit(self, level: Any, text: str, **fields: Any) -> str:
        event = {"log_time": 1_795_233_600.1239, "log_level": level, "log_format": text, **fields}
        self.observer(event)
        return self.stream.getvalue()

    def test_observer(self) -> None:
        """What twistd asks for by name is an observer."""
        verifyObject(ILogObserver, observer())

    def test_line(self) -> None:
        """An event is one line: time, level, message."""
        self.assertEqual(
            self.emit(LogLevel.info, "pulled {name}", name="app"),
            "2026-11-21T04:00:00.123Z info     pulled app\n",
        )

    def test_debug(self) -> None:
        """Debug events are not written."""
        self.assertEqual(self.emit(LogLevel.debug, "x"), "")

    def test_no_forged_lines(self) -> None:
        """Nothing in a message begins a line or steers a terminal."""
        text = self.emit(LogLevel.warn, "{x}", x="a\nb\rc\x1b[2Jd\u2028e\x85f\ud800 é")
        self.assertTrue(text.endswith(" a\\nb\\rc\\x1b[2Jd\\u2028e\\x85f\\ud800 é\n"), text)
        self.assertEqual(len(text.splitlines()), 1)

    def test_failure(self) -> None:
        """A failure is followed by its traceback, in which nothing steers a terminal either."""
        try:
            raise ValueError("bad\x1b")
        except ValueError:
            failure = Failure()
        lines = self.emit(LogLevel.critical, "it failed", log_failure=failure).splitlines()
        self.assertTrue(lines[0].endswith(" critical it failed"))
        self.assertIn("Traceback", lines[1])
        self.assertTrue(lines[-1].endswith("ValueError: bad\\x1b"), lines[-1])

    def test_unformattable(self) -> None:
        """An event that cannot be formatted is told as such, and nothing is raised."""
        self.assertIn("Unable to format event", self.emit(LogLevel.info, "{missing}"))

    def test_from_a_logger(self) -> None:
        """An event of a Logger comes through, without a level of one's own too."""
        Logger("here", observer=self.observer).warn("careful")
        self.observer({"log_format": "old"})
        first, second = self.stream.getvalue().splitlines()
        self.assertTrue(first.endswith("Z warn     careful"))
        self.assertTrue(second.endswith("Z info     old"))
