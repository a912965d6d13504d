"""Unix endpoints get what they leave out, and a socket that nobody owns is no obstacle."""

import socket
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.unix_socket import clear, complete


class CompleteTests(SynchronousTestCase):
    def test_left_out(self) -> None:
        """What is said stays; what is not is no lock file and the mode that is wanted."""
        for description, whole in {
            "unix:/run/m": "unix:/run/m:lockfile=0:mode=600",
            "unix:/run/m:mode=660": "unix:/run/m:mode=660:lockfile=0",
            "unix:address=/run/a\\:b:lockfile=1": "unix:address=/run/a\\:b:lockfile=1:mode=600",
            "tcp:5000": "tcp:5000",
        }.items():
            self.assertEqual(whole, complete(description, "600"))
        self.assertEqual("unix:/run/m:lockfile=0", complete("unix:/run/m"))


class ClearTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "a:b")
        self.description = f"unix:{folder.name}/a\\:b"

    def test_nobody_listens(self) -> None:
        """The socket of a daemon that was killed goes."""
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(self.path))
        clear(self.description)
        self.assertFalse(self.path.exists())

    def test_somebody_listens(self) -> None:
        """The socket of a daemon that runs stays."""
        with socket.socket(socket.AF_UNIX) as running:
            running.bind(str(self.path))
            running.listen()
            clear(self.description)
            self.assertTrue(self.path.exists())

    def test_no_socket(self) -> None:
        """What is no socket, or not there, is let be."""
        clear(self.description)
        self.path.write_text("mine")
        clear(self.description)
        self.assertEqual("mine", self.path.read_text())
        clear("tcp:5000")
