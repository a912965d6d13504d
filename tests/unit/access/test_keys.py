"""The key that tokens are signed with."""

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

    def test_made_once(self) -> None:
        """The key is the same at the next start."""
        self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))

    def test_own_only(self) -> None:
        """Nobody but its owner can read the key, not even while it is made."""
        open_key(self.folder)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual([path.name for path in self.folder.iterdir()], [KEY_NAME])

    def test_damaged(self) -> None:
        """A key that is damaged, cut off or of another kind is made anew, and then stays."""
        self.folder.mkdir(parents=True)
        for content in (b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff"):
            self.file.write_bytes(content)
            self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))

    def test_died_in_the_middle(self) -> None:
        """What a start left behind that died while it made one is no hindrance."""
        self.folder.mkdir(parents=True)
        self.file.with_suffix(".new").write_bytes(b"half")
        self.assertEqual(raw(open_key(self.folder)), raw(open_key(self.folder)))
