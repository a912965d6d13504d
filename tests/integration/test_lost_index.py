"""Whatever happened to the index, a daemon serves what was acknowledged, and evicts none of it."""

import hashlib
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.left_stores import Damage, LeftStores

MOMENTS = int(os.environ.get("MIRRORD_MOMENTS", "10"))
"""At how many of 50 places an index is truncated."""


class LostIndexTests(SynchronousTestCase):
    folder: ClassVar[Path]
    left: ClassVar[LeftStores]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        cls.left = LeftStores.make(cls.folder)

    @classmethod
    def tearDownClass(cls) -> None:
        shutil.rmtree(cls.folder, ignore_errors=True)

    def check(self, original: Path, damage: Damage, *reasons: str) -> None:
        """Damage a copy of a store; check what is served, and that the log has one of the reasons."""
        with self.left.copy(original) as daemon:
            damage(daemon.store)
            self.assertEqual([], self.left.problems(daemon), daemon.log[-4000:])
            logged = "\n".join(line for line in daemon.log.splitlines() if " pulled " not in line)
            self.assertTrue(any(reason in logged for reason in reasons or [""]), logged)

    def put_back(self, *names: str) -> Damage:
        """Return a damage that puts these files of an earlier index in place of the later ones."""

        def put_back(store: Path) -> None:
            for path in store.glob("index.sqlite*"):
                path.unlink()
            for name in names:
                shutil.copy(self.left.early / name, store)

        return put_back

    def test_sound(self) -> None:
        """A store that was left by SIGTERM or by SIGKILL is used as it is."""
        for original in (self.left.stopped, self.left.killed):
            with self.left.copy(original) as daemon:
                self.assertEqual([], self.left.problems(daemon))
                self.assertNotIn("index was", daemon.log)

    def test_overwritten(self) -> None:
        """An index that is empty, or all zeros, or garbage, is rebuilt."""
        for content in (b"", b"garbage " * 10_000, bytes(100_000)):

            def overwrite(store: Path, content: bytes = content) -> None:
                (store / "index.sqlite").write_bytes(content)

            for original in (self.left.stopped, self.left.killed):
                self.check(original, overwrite, "the index was rebuilt because")

    def test_deleted(self) -> None:
        """An index that was deleted, with its log or without, is rebuilt."""
        for original in (self.left.stopped, self.left.killed):
            self.check(original, lambda store: (store / "index.sqlite").unlink(), "because it is missing")
        self.check(self.left.killed, self.put_back(), "because it is missing")

    def test_truncated(self) -> None:
        """An index that ends too early, wherever, is rebuilt, unless its log has the rest."""
        for number in range(0, 50, 50 // MOMENTS):
            original = self.left.killed if number % 2 else self.left.stopped

            def truncate(store: Path, number: int = number) -> None:
                index = store / "index.sqlite"
                os.truncate(index, index.stat().st_size * number // 50)

            with self.subTest(place=number):
                self.check(original, truncate, "rebuilt because" if original == self.left.stopped else "")

    def test_rolled_back(self) -> None:
        """An earlier copy of the index, with its own log, or with none, is brought up to date or replaced."""
        both = ("index.sqlite", "index.sqlite-wal")
        for original in (self.left.stopped, self.left.killed):
            for names in (both, both[:1]):
                self.check(original, self.put_back(*names), "behind the journal", "rebuilt because")

    def test_an_earlier_file_beside_the_later_log(self) -> None:
        """An earlier copy of the index beside the log of the later one loses nothing."""

        def put_back(store: Path) -> None:
            shutil.copy(self.left.early / "index.sqlite", store)

        self.check(self.left.killed, put_back)

    def test_without_its_log(self) -> None:
        """After a kill, an index without its log is brought up to date or replaced."""

        def remove(store: Path) -> None:
            (store / "index.sqlite-wal").unlink()

        self.check(self.left.killed, remove, "behind the journal", "the index was rebuilt because")

    def test_a_lost_journal(self) -> None:
        """Without journal and snapshots, the index is enough; a journal is begun anew."""

        def remove(store: Path) -> None:
            for path in (store / "hosted").glob("hosted.*"):
                path.unlink()

        for original in (self.left.stopped, self.left.killed):
            self.check(original, remove, "the journal of hosted repositories")

    def test_lost_snapshots(self) -> None:
        """Without snapshots, the index and the journal are enough."""

        def remove(store: Path) -> None:
            for path in (store / "hosted").glob("hosted.snapshot-*"):
                path.unlink()

        self.check(self.left.stopped, remove)
        self.check(self.left.killed, remove)

    def test_a_later_version(self) -> None:
        """An index of a later version ends the start with one line and status 1, and stays as it is."""
        with self.left.copy(self.left.stopped) as daemon:
            index = daemon.store / "index.sqlite"
            with closing(sqlite3.connect(index)) as connection:
                connection.execute("PRAGMA user_version = 99")
            before = hashlib.sha256(index.read_bytes()).digest()
            self.assertRaises(AssertionError, daemon.start)
            self.assertEqual(1, daemon.status)
            (line,) = [line for line in daemon.log.splitlines() if "version 99" in line]
            self.assertIn("cannot start", line)
            self.assertEqual([], daemon.bad_lines())
            self.assertEqual(before, hashlib.sha256(index.read_bytes()).digest())
