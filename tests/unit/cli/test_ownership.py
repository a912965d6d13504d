"""Tests of mirrord/cli/ownership.py."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.ownership import Owner

ROOT = Path(__file__).parents[3]
NOBODY = Owner(65_534, 65_534)
STRANGER = Owner(12_345, 12_346)


class OwnershipCase(SynchronousTestCase):
    def setUp(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("only root can act as another user")
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o755)

    def make(self, name: str, owner: Owner) -> Path:
        """Return a new folder that belongs to a user."""
        folder = self.folder / name
        folder.mkdir(0o700)
        os.chown(folder, owner.uid, owner.gid)
        return folder


class OwnerTests(OwnershipCase):
    def test_folder(self) -> None:
        """A folder is controlled by its owner, with the primary group of that user if it is known."""
        self.assertEqual(STRANGER, Owner.of(self.make("stranger", STRANGER)))
        self.assertEqual(NOBODY, Owner.of(self.make("nobody", Owner(65_534, 0))))
        self.assertEqual(Owner(0, 0), Owner.of(self.folder))

    def test_missing(self) -> None:
        """A folder that does not exist is controlled by the owner of the one that it would be created in."""
        self.assertEqual(STRANGER, Owner.of(self.make("stranger", STRANGER) / "a" / "b"))
        self.assertEqual(Owner(0, 0), Owner.of(self.folder / "a" / "b"))

    def test_link(self) -> None:
        """A folder of root's is controlled by whoever can replace it, or made the link that leads to it."""
        outside = self.make("outside", Owner(0, 0))
        inside = self.make("stranger/outside", Owner(0, 0)) if self.make("stranger", STRANGER) else outside
        self.assertEqual(STRANGER, Owner.of(inside))
        link = self.folder / "stranger" / "link"
        link.symlink_to(outside)
        self.assertEqual(STRANGER, Owner.of(link))
        indirect = self.folder / "indirect"
        indirect.symlink_to("stranger/link")
        self.assertEqual(STRANGER, Owner.of(indirect / "deep"))
        direct = self.folder / "direct"
        direct.symlink_to(outside)
        self.assertEqual(Owner(0, 0), Owner.of(direct))

    def test_loop(self) -> None:
        """A link that leads to itself is an error."""
        link = self.folder / "link"
        link.symlink_to(link)
        self.assertRaises(OSError, Owner.of, link)


class ActingTests(OwnershipCase):
    def test_rights(self) -> None:
        """While root acts as a user, it has the rights of this user and no others."""
        secret, own = self.folder / "secret", self.make("own", STRANGER) / "file"
        secret.write_text("x")
        secret.chmod(0o640)
        with STRANGER.acting():
            self.assertRaises(PermissionError, secret.read_text)
            own.write_text("y")
            self.assertEqual([], os.getgroups())
        self.assertEqual("x", secret.read_text())
        self.assertEqual((STRANGER.uid, STRANGER.gid), (own.stat().st_uid, own.stat().st_gid))

    def test_nested(self) -> None:
        """Rights are restored in order, also after an exception."""
        before = os.geteuid(), os.getegid(), os.getgroups()
        with STRANGER.acting():
            with self.assertRaises(ZeroDivisionError), Owner(0, 0).acting():
                self.assertEqual((0, 0), (os.geteuid(), os.getegid()))
                raise ZeroDivisionError
            self.assertEqual((STRANGER.uid, STRANGER.gid), (os.geteuid(), os.getegid()))
        self.assertEqual(before, (os.geteuid(), os.getegid(), os.getgroups()))

    def test_become(self) -> None:
        """Root that has become a user has no way back, no groups, and is in the root folder."""
        code = (
            "import os; from mirrord.cli.ownership import Owner; Owner(12345, 12346).become();"
            "print(os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        self.assertEqual("(12345, 12345, 12345) (12346, 12346, 12346) [] /\n", done.stdout)
