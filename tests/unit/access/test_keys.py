"""The key that signs tokens."""

import stat
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.keys import KEY_NAME, open_key


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


class KeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "state"
        self.file = self.folder / KEY_NAME

    def test_generated_once(self) -> None:
        """The key is the same at the next start."""
        self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))

    def test_own_only(self) -> None:
        """Only its owner can read the key, even while it is generated."""
        open_key(self.folder)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual([path.name for path in self.folder.iterdir()], [KEY_NAME])

    def test_damaged(self) -> None:
        """A key that is damaged, truncated or of another kind is replaced once."""
        self.folder.mkdir(parents=True)
        for content in (b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff"):
            self.file.write_bytes(content)
            self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))

    def test_interrupted(self) -> None:
        """A file left by a start that was interrupted while it wrote the key is replaced."""
        self.folder.mkdir(parents=True)
        self.file.with_suffix(".new").write_bytes(b"half")
        self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))
