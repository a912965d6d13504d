"""Tests of mirrord/observe/journal.py."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.entry import LogEntry
from mirrord.observe.events import Event
from mirrord.observe.journal import Journal, JournalFull, is_journal


class JournalTests(SynchronousTestCase):
    """A journal is a datagram socket, which tests can be at the other end of."""

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
        """An entry has its message, level, kind and fields under the journal's names."""
        journald = self.listen()
        self.journal.write(LogEntry(0, "warn", "careful", {"bytes": 5, "digest": "sha256:0"}, Event.PULLED))
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
        """A traceback is in the message, with its lines, and no line of it can be taken for a field."""
        journald = self.listen()
        self.journal.write(LogEntry(0, "error", "it failed", traceback="Traceback\nPRIORITY=0"))
        message = b"it failed\nTraceback\nPRIORITY=0"
        length = len(message).to_bytes(8, "little")
        self.assertTrue(journald.recv(1 << 16).startswith(b"MESSAGE\n" + length + message + b"\n"))

    def test_long(self) -> None:
        """What a datagram cannot hold is handed over as a file."""
        journald = self.listen()
        self.journal.write(LogEntry(0, "error", "x", traceback="y" * 1_000_000))
        _, (fd,), _, _ = socket.recv_fds(journald, 100, 1)
        self.addCleanup(os.close, fd)
        self.assertGreater(os.fstat(fd).st_size, 1_000_000)

    def test_full(self) -> None:
        """A journal that takes nothing is not waited for."""
        self.listen()
        with self.assertRaises(JournalFull):
            for _ in range(100_000):
                self.journal.write(LogEntry(0, "info", "x" * 1000))

    def test_absent(self) -> None:
        """Where there is no journal that is said, and one that comes later is found."""
        entry = LogEntry(0, "info", "x")
        self.assertRaises(FileNotFoundError, self.journal.write, entry)
        journald = self.listen()
        self.journal.write(entry)
        self.assertIn(b"MESSAGE=x", journald.recv(1000))


class StreamTests(SynchronousTestCase):
    """Whether a descriptor goes to the journal."""

    def test_named(self) -> None:
        """It does if JOURNAL_STREAM names its device and inode, and not if it names another, or nonsense."""
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
