"""Tests of mirrord/http/unix_port.py."""

import fcntl
import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.unix_port import listen_at


class ListenTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "a:b"

    def listen(self, mode: int = 0o660) -> socket.socket:
        listening = listen_at(self.path, mode)
        self.addCleanup(listening.close)
        return listening

    def refused(self) -> str:
        """Return why the socket cannot be created."""
        return str(self.assertRaises(OSError, listen_at, self.path, 0o660))

    def test_mode(self) -> None:
        """The socket has its mode whatever the umask, which is unchanged afterwards, and belongs to us."""
        for umask in (0o000, 0o077, 0o777):
            self.addCleanup(os.umask, os.umask(umask))
            self.listen().close()
            found = self.path.stat()
            self.assertEqual(
                (0o660, os.geteuid(), os.getegid()), (found.st_mode & 0o7777, found.st_uid, found.st_gid)
            )
            self.assertEqual(umask, os.umask(umask))

    def test_born_with_its_mode(self) -> None:
        """The file is created with its mode: no later chmod opens or closes it."""
        self.patch(os, "chmod", self.fail)
        self.patch(os, "fchmod", self.fail)
        self.listen(0o600)
        self.assertEqual(0o600, self.path.stat().st_mode & 0o7777)

    def test_stale(self) -> None:
        """The socket of a daemon that was killed is replaced, and no other file is left."""
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(self.path))
        self.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
        self.assertEqual([self.path], list(self.folder.iterdir()))

    def test_in_use(self) -> None:
        """The socket of a running daemon is kept, also while its queue is full, and reported."""
        with socket.socket(socket.AF_UNIX) as running:
            running.bind(str(self.path))
            running.listen(0)
            for _ in range(3):
                self.assertIn("another process listens there", self.refused())
            self.assertTrue(self.path.is_socket())

    def test_no_socket(self) -> None:
        """A file or a link at the path is left alone, and reported."""
        target = self.folder / "target"
        target.write_text("mine")
        self.path.symlink_to(target)
        self.assertIn("something else than a socket", self.refused())
        self.path.unlink()
        self.path.write_text("mine")
        self.assertIn("something else than a socket", self.refused())
        self.assertEqual("mine", self.path.read_text())

    def test_one_at_a_time(self) -> None:
        """Of two daemons that start at once, one cannot take the socket of the other for a stale one."""
        with (self.folder / "a:b.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertIn("about to listen", self.refused())
        self.listen()

    def test_planted_lock(self) -> None:
        """The lock file is not created through a link."""
        target = self.folder / "target"
        (self.folder / "a:b.lock").symlink_to(target)
        self.refused()
        self.assertFalse(target.exists())
