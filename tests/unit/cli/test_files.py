from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.files import replace_file


class ReplaceFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "a" / "key.pem"

    def test_replaced(self) -> None:
        """A file is created with its folder and mode, and replaced as a whole."""
        replace_file(self.path, b"old", mode=0o644)
        with self.path.open("rb") as reader:
            replace_file(self.path, b"new", mode=0o600)
            self.assertEqual(reader.read(), b"old")
        self.assertEqual((self.path.read_bytes(), self.path.stat().st_mode & 0o777), (b"new", 0o600))
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_failure(self) -> None:
        """After a failure the file is unchanged, and nothing else is left."""
        replace_file(self.path, b"old", mode=0o644)
        with patch("os.fsync", side_effect=OSError("the disk is full")), self.assertRaises(OSError):
            replace_file(self.path, b"new", mode=0o644)
        self.assertEqual(self.path.read_bytes(), b"old")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])
