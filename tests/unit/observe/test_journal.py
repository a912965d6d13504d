"""Tests of mirrord/observe/journal.py."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.events import Event
from mirrord.observe.journal import Journal, JournalFull, is_journal
from mirrord.observe.log_entry import LogEntry


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
        with self.assertRaises(JournalFull):
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
