"""Tests of mirrord/observe/logs.py."""

import json
import os
from typing import Any

from twisted.logger import ILogObserver, Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mirrord.observe.journal import Journal
from mirrord.observe.lines import LineStream
from mirrord.observe.logs import Logs, observer

Pairs = list[tuple[str, object]]


class FakeTransport:
    """A journal that takes entries, or fails."""

    def __init__(self) -> None:
        self.entries: list[dict[str, object]] = []
        self.error: OSError | None = None

    def send(self, pairs: Pairs) -> None:
        if self.error is not None:
            raise self.error
        self.entries.append(dict(pairs))

    @property
    def messages(self) -> list[object]:
        return [entry["MESSAGE"] for entry in self.entries]


class LogsTests(SynchronousTestCase):
    """The observer, between a pipe and a journal."""

    def setUp(self) -> None:
        self.reader, self.writer = os.pipe()
        self.addCleanup(os.close, self.reader)
        self.addCleanup(os.close, self.writer)
        self.transport = FakeTransport()
        self.logs = self.make_logs(is_journaled=False)

    def make_logs(self, *, is_journaled: bool) -> Logs:
        logs = Logs(LineStream(self.writer), Journal(self.transport), is_journaled)
        self.log = Logger("here", observer=logs)
        return logs

    def written(self) -> list[str]:
        os.set_blocking(self.reader, False)
        try:
            return os.read(self.reader, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    def test_observer(self) -> None:
        """What twistd asks for by name is an observer, and there is one of it."""
        verifyObject(ILogObserver, observer())
        self.assertIs(observer(), observer())

    def test_levels(self) -> None:
        """Events below the level are not told; the level can be changed at any time."""
        told: dict[str, list[str]] = {}
        for level in ("debug", "info", "warn", "error"):
            self.logs.configure("text", level)
            for emit in (self.log.debug, self.log.info, self.log.warn, self.log.error, self.log.critical):
                emit("x")
            told[level] = [line.split()[1] for line in self.written()]
        self.assertEqual(
            {
                "debug": ["debug", "info", "warn", "error", "critical"],
                "info": ["info", "warn", "error", "critical"],
                "warn": ["warn", "error", "critical"],
                "error": ["error", "critical"],
            },
            told,
        )

    def test_debugging(self) -> None:
        """It says whether debug is told, for those whom words would cost much."""
        self.assertFalse(self.logs.is_debugging)
        self.logs.configure("text", "debug")
        self.assertTrue(self.logs.is_debugging)

    def test_begins(self) -> None:
        """Before it is configured, and with `auto`, it writes text from info on, or to the journal."""
        self.log.info("one")
        self.log.debug("not told")
        (line,) = self.written()
        self.assertTrue(line.endswith("Z info     one"), line)

        self.make_logs(is_journaled=True)
        self.log.info("two")
        self.assertEqual((["two"], []), (self.transport.messages, self.written()))

    def test_json(self) -> None:
        """As JSON every line is an object."""
        self.logs.configure("json", "info")
        self.log.info("{client} came", client="10.0.0.1")
        (line,) = self.written()
        document: dict[str, Any] = json.loads(line)
        self.assertEqual(("10.0.0.1 came", "10.0.0.1"), (document["message"], document["client"]))

    def test_no_journal(self) -> None:
        """Where the journal is wanted and there is none, text is written."""
        self.logs.configure("journal", "info")
        self.transport.error = FileNotFoundError(2, "none")
        self.log.info("one")
        self.assertEqual(1, len(self.written()))
        self.assertEqual(0, self.logs.dropped)

    def test_full_journal(self) -> None:
        """What a full journal does not take is counted, and told once it takes entries again."""
        self.logs.configure("journal", "info")
        self.transport.error = BlockingIOError(11, "full")
        self.log.info("one")
        self.log.info("two")
        self.assertEqual((2, []), (self.logs.dropped, self.written()))

        self.transport.error = None
        self.log.info("three")
        self.log.info("four")

        lost = "2 log entries were dropped: nobody took them"
        self.assertEqual([lost, "three", "four"], self.transport.messages)
        self.assertEqual(2, self.logs.dropped)

    def test_full_pipe(self) -> None:
        """A pipe that nobody reads costs lines, and never waits."""
        while not self.logs.dropped:
            self.log.info("x" * 4000)
        self.log.info("lost too")
        self.assertEqual(2, self.logs.dropped)
        self.written()
        self.log.info("seen")
        told, seen = self.written()[-2:]
        self.assertIn("2 log entries were dropped", told)
        self.assertTrue(seen.endswith("seen"))
