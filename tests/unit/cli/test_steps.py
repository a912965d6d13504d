import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.steps import Command, File, Link, Removal, StepError


class StepCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class FileTests(StepCase):
    def test_written(self) -> None:
        """A file is written with its folders, readable for everyone, and nothing is left beside it."""
        path = self.folder / "a" / "b.conf"
        self.assertEqual(File(path, "x\n").take(), f"wrote   {path}")
        self.assertEqual((path.read_text(), path.stat().st_mode & 0o777), ("x\n", 0o644))
        self.assertEqual(list(path.parent.iterdir()), [path])

    def test_again(self) -> None:
        """A file that is as it should be is left, and one of ours that is not is written again."""
        path = self.folder / "b.conf"
        File(path, "x\n").take()
        self.assertEqual(File(path, "x\n").take(), f"left    {path}")
        self.assertEqual(File(path, "y\n").take(), f"wrote   {path}")
        self.assertEqual(path.read_text(), "y\n")

    def test_theirs(self) -> None:
        """A file of the operator's is written where there is none, and never again."""
        path = self.folder / "mirrord.toml"
        self.assertEqual(File(path, "x\n", is_theirs=True).take(), f"wrote   {path}")
        path.write_text("mine\n")
        self.assertEqual(File(path, "x\n", is_theirs=True).take(), f"left    {path}")
        self.assertEqual(path.read_text(), "mine\n")

    def test_shown(self) -> None:
        """Showing says the whole file, or that it stays, and writes nothing."""
        path = self.folder / "b.conf"
        self.assertEqual(File(path, "x\n").show(), f"==> {path}\nx\n")
        self.assertFalse(path.exists())
        File(path, "x\n").take()
        self.assertEqual(File(path, "x\n").show(), f"==> {path} stays as it is")


class LinkTests(StepCase):
    def test_made(self) -> None:
        """A link is made once."""
        path = self.folder / "bin" / "mirrord"
        self.assertEqual(Link(path, Path("/opt/x")).take(), f"linked  {path}")
        self.assertEqual(Link(path, Path("/opt/x")).take(), f"left    {path}")
        self.assertEqual(path.readlink(), Path("/opt/x"))

    def test_moved(self) -> None:
        """A link of an installation that was elsewhere is turned to the new one."""
        path = self.folder / "mirrord"
        Link(path, Path("/opt/x")).take()
        self.assertEqual(Link(path, Path("/opt/y")).take(), f"linked  {path}")
        self.assertEqual(path.readlink(), Path("/opt/y"))

    def test_foreign(self) -> None:
        """A file that somebody else put there is left."""
        path = self.folder / "mirrord"
        path.write_text("#!/bin/sh\n")
        self.assertEqual(Link(path, Path("/opt/x")).take(), f"left    {path}")
        self.assertFalse(path.is_symlink())


class RemovalTests(StepCase):
    def test_all_kinds(self) -> None:
        """A file, a link and a whole folder go; what a link leads to stays; what is absent is no error."""
        file, link, folder = self.folder / "file", self.folder / "link", self.folder / "folder"
        (folder / "a").mkdir(parents=True)
        (folder / "a" / "b").write_text("x")
        link.symlink_to(file)
        file.write_text("x")
        Removal(link).take()
        self.assertTrue(file.exists())
        for path in (file, folder):
            self.assertEqual(Removal(path).take(), f"removed {path}")
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertEqual(Removal(file).take(), f"absent  {file}")


class CommandTests(SynchronousTestCase):
    def test_success(self) -> None:
        """A command that succeeds is named, and what it printed is not repeated."""
        said = Command((sys.executable, "-c", "print(5)")).take()
        self.assertEqual(said, f"ran     {sys.executable} -c 'print(5)'")

    def test_failure(self) -> None:
        """A command that fails says so in one line, in its own words or with our advice."""
        words = (sys.executable, "-c", "print('first\\nsecond'); raise SystemExit(3)")
        with self.assertRaises(StepError) as caught:
            Command(words).take()
        self.assertTrue(str(caught.exception).endswith(": first second"))
        with self.assertRaises(StepError) as caught:
            Command(words, advice="look there").take()
        self.assertTrue(str(caught.exception).endswith(": look there"))

    def test_shown(self) -> None:
        """Showing says it as one would type it."""
        self.assertEqual(Command(("systemctl", "a b")).show(), "$ systemctl 'a b'")
