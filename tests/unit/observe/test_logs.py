"""Tests of mirrord/observe/logs.py."""

import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mirrord.observe.events import Event
from mirrord.observe.log_entry import LogEntry
from mirrord.observe.logs import Journal, LineStream, Logs, is_journal, observer

Pairs = list[tuple[str, object]]


class FakeTransport:
    """A connection to a journal that accepts entries, or fails."""

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
    """The observer over a pipe and a journal."""

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
        """The observer that twistd looks up by name is an ILogObserver, and a singleton."""
        verifyObject(ILogObserver, observer())
        self.assertIs(observer(), observer())

    def test_levels(self) -> None:
        """Events below the level are not logged; the level can be changed at any time."""
        logged: dict[str, list[str]] = {}
        for level in ("debug", "info", "warn", "error"):
            self.logs.configure("text", level)
            for emit in (self.log.debug, self.log.info, self.log.warn, self.log.error, self.log.critical):
                emit("x")
            logged[level] = [line.split()[1] for line in self.written()]
        self.assertEqual(
            {
                "debug": ["debug", "info", "warn", "error", "critical"],
                "info": ["info", "warn", "error", "critical"],
                "warn": ["warn", "error", "critical"],
                "error": ["error", "critical"],
            },
            logged,
        )

    def test_debugging(self) -> None:
        """`is_debugging` is true if debug events are logged."""
        self.assertFalse(self.logs.is_debugging)
        self.logs.configure("text", "debug")
        self.assertTrue(self.logs.is_debugging)

    def test_defaults(self) -> None:
        """By default info and above are written as text, or to the journal."""
        self.log.info("one")
        self.log.debug("not logged")
        (line,) = self.written()
        self.assertTrue(line.endswith("Z info     one"), line)

        self.make_logs(is_journaled=True)
        self.log.info("two")
        self.assertEqual((["two"], []), (self.transport.messages, self.written()))

    def test_json(self) -> None:
        """With the format json every line is an object."""
        self.logs.configure("json", "info")
        self.log.info("{client} came", client="10.0.0.1")
        (line,) = self.written()
        document: dict[str, Any] = json.loads(line)
        self.assertEqual(("10.0.0.1 came", "10.0.0.1"), (document["message"], document["client"]))

    def test_no_journal(self) -> None:
        """If the journal is configured and there is none, text is written."""
        self.logs.configure("journal", "info")
        self.transport.error = FileNotFoundError(2, "none")
        self.log.info("one")
        self.assertEqual(1, len(self.written()))
        self.assertEqual(0, self.logs.dropped)

    def test_full_journal(self) -> None:
        """Entries that a full journal rejects are counted, and reported once it accepts some again."""
        self.logs.configure("journal", "info")
        self.transport.error = BlockingIOError(11, "full")
        self.log.info("one")
        self.log.info("two")
        self.assertEqual((2, []), (self.logs.dropped, self.written()))

        self.transport.error = None
        self.log.info("three")
        self.log.info("four")

        lost = "2 log entries were dropped: the output was blocked"
        self.assertEqual([lost, "three", "four"], self.transport.messages)
        self.assertEqual(2, self.logs.dropped)

    def test_full_pipe(self) -> None:
        """A full pipe loses lines, and never blocks."""
        while not self.logs.dropped:
            self.log.info("x" * 4000)
        self.log.info("lost too")
        self.assertEqual(2, self.logs.dropped)
        self.written()
        self.log.info("seen")
        report, seen = self.written()[-2:]
        self.assertIn("2 log entries were dropped", report)
        self.assertTrue(seen.endswith("seen"))


class LineStreamTests(SynchronousTestCase):
    """A stream over a pipe, with and without a reader."""

    def setUp(self) -> None:
        self.reader, self.writer = os.pipe()
        self.addCleanup(os.close, self.writer)
        self.stream = LineStream(self.writer)

    def test_through(self) -> None:
        """A line arrives, even if it is longer than one piece."""
        self.addCleanup(os.close, self.reader)
        line = "é" * 5_000 + "\n"
        self.assertTrue(self.stream.write(line))
        self.assertEqual(line.encode(), os.read(self.reader, 100_000))

    def test_full(self) -> None:
        """Writing to a full pipe does not block, and the next line begins on a line of its own."""
        self.addCleanup(os.close, self.reader)
        while self.stream.write("x" * 9_000 + "\n"):
            pass
        self.assertFalse(self.stream.write("lost\n"))

        os.read(self.reader, 1 << 20)
        self.assertTrue(self.stream.write("seen\n"))

        self.assertEqual(b"\nseen\n", os.read(self.reader, 100))

    def test_gone(self) -> None:
        """A closed pipe causes no exception."""
        os.close(self.reader)
        self.assertFalse(self.stream.write("lost\n"))


class JournalTests(SynchronousTestCase):
    """A journal whose datagram socket the test reads."""

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "socket"
        self.journal = Journal.at(self.path)

    def listen(self) -> socket.socket:
        journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(journald.close)
        journald.bind(str(self.path))
        journald.settimeout(5)
        return journald

    def test_fields(self) -> None:
        """An entry has its message, level, kind and fields under the names of the journal."""
        journald = self.listen()
        self.journal.write(
            LogEntry(
                at=0,
                level="warn",
                message="careful",
                fields={"bytes": 5, "digest": "sha256:0"},
                event=Event.PULLED,
            )
        )
        self.assertEqual(
            [
                b"MESSAGE=careful",
                b"PRIORITY=4",
                b"SYSLOG_IDENTIFIER=mirrord",
                b"MESSAGE_ID=" + Event.PULLED.value.encode(),
                b"MIRRORD_BYTES=5",
                b"MIRRORD_DIGEST=sha256:0",
            ],
            journald.recv(1 << 16).splitlines(),
        )

    def test_traceback(self) -> None:
        """A traceback is part of the message, and no line of it can be mistaken for a field."""
        journald = self.listen()
        self.journal.write(
            LogEntry(at=0, level="error", message="it failed", traceback="Traceback\nPRIORITY=0")
        )
        message = b"it failed\nTraceback\nPRIORITY=0"
        length = len(message).to_bytes(8, "little")
        self.assertTrue(journald.recv(1 << 16).startswith(b"MESSAGE\n" + length + message + b"\n"))

    def test_long(self) -> None:
        """An entry that is too large for a datagram is sent as a file."""
        journald = self.listen()
        self.journal.write(LogEntry(at=0, level="error", message="x", traceback="y" * 1_000_000))
        _, (fd,), _, _ = socket.recv_fds(journald, 100, 1)
        self.addCleanup(os.close, fd)
        self.assertGreater(os.fstat(fd).st_size, 1_000_000)

    def test_full(self) -> None:
        """A full journal does not block."""
        self.listen()
        with self.assertRaises(BlockingIOError):
            for _ in range(100_000):
                self.journal.write(LogEntry(at=0, level="info", message="x" * 1000))

    def test_absent(self) -> None:
        """Without a journal an error is raised, and one that starts later is found."""
        entry = LogEntry(at=0, level="info", message="x")
        self.assertRaises(FileNotFoundError, self.journal.write, entry)
        journald = self.listen()
        self.journal.write(entry)
        self.assertIn(b"MESSAGE=x", journald.recv(1000))


class IsJournalTests(SynchronousTestCase):
    """Streams to the journal."""

    def test_named(self) -> None:
        """A stream is the journal's if JOURNAL_STREAM names its device and inode, and only then."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        found = os.fstat(writer)
        name = f"{found.st_dev}:{found.st_ino}"
        self.assertTrue(is_journal(writer, {"JOURNAL_STREAM": name}))
        for other in ("", "1:2", "nonsense"):
            self.assertFalse(is_journal(writer, {"JOURNAL_STREAM": other}))
        self.assertFalse(is_journal(writer, {}))
        os.close(writer)
        self.assertFalse(is_journal(writer, {"JOURNAL_STREAM": name}))
