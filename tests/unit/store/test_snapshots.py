import sqlite3

from mirrord.oci.digest import Digest
from mirrord.store.disk import StoreInUse
from mirrord.store.journal import encode, journal_path, numbered
from mirrord.store.layout import Layout
from mirrord.store.schema import LaterVersion
from mirrord.store.snapshots import (
    CHECK_SECONDS,
    INTERVAL_SECONDS,
    KEPT,
    MAX_JOURNAL_BYTES,
    Snapshot,
    open_snapshots,
    snapshot_path,
    write_snapshot,
)
from tests.unit.store.cases import APP, V1, PushTestCase, layer, manifest

IMAGE = manifest(layer(b"x"))


class SnapshotTests(PushTestCase):
    def numbers(self, word: str = "snapshot") -> list[int]:
        return sorted(numbered(self.layout.hosted_root, word))

    def newest(self) -> Snapshot:
        return next(open_snapshots(self.layout.hosted_root))

    def pass_an_hour(self) -> None:
        for _ in range(int(INTERVAL_SECONDS / CHECK_SECONDS) + 1):
            self.pass_time(CHECK_SECONDS)

    def test_hourly(self) -> None:
        """A snapshot is taken within an hour of a change, and none without one."""
        self.assertEqual([1], self.numbers())
        self.pass_an_hour()
        self.assertEqual([1], self.numbers())
        self.push_blob(b"x")
        self.pass_an_hour()
        self.assertEqual([1, 2], self.numbers())
        self.assertEqual(1, self.newest().sequence)
        self.pass_an_hour()
        self.assertEqual([1, 2], self.numbers())

    def test_a_long_journal(self) -> None:
        """A journal that has grown is ended by a snapshot at the next check."""
        self.push_blob(b"x")
        self.store._journal.size = MAX_JOURNAL_BYTES + 1
        self.pass_time(CHECK_SECONDS)
        self.assertEqual([1, 2], self.numbers())

    def test_two_are_kept_with_their_journals(self) -> None:
        """The last two snapshots are kept, and the journals from the older of them on."""
        for number in range(KEPT + 3):
            self.push_blob(b"%d" % number)
            self.pass_an_hour()
        self.assertEqual([5, 6], self.numbers())
        self.assertEqual([5, 6], self.numbers("journal"))
        self.result(self.store.close())
        self.layout.index.unlink()
        snapshot_path(self.layout.hosted_root, 6).unlink()
        self.store = self.open()
        self.assertTrue(all(self.has(Digest.of(b"%d" % number)) for number in range(KEPT + 3)))

    def test_a_damaged_one_is_replaced(self) -> None:
        """After a start, a newest snapshot that is damaged is replaced while the index is whole."""
        self.push_manifest(IMAGE, V1)
        self.pass_an_hour()
        self.result(self.store.close())
        path = self.newest().path
        path.write_bytes(path.read_bytes()[:-1])
        self.store = self.open()
        self.pass_time(CHECK_SECONDS)
        self.result(self.store.close())
        for number in self.numbers("journal"):
            journal_path(self.layout.hosted_root, number).unlink()
        self.layout.index.unlink()
        self.store = self.open()
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))

    def test_a_disk_that_refuses(self) -> None:
        """A snapshot that fails is taken later, and each attempt does not begin another journal file."""
        self.push_blob(b"x")
        in_the_way = self.layout.hosted_root / "hosted.snapshot-2.new"
        in_the_way.mkdir()
        self.pass_an_hour()
        self.pass_an_hour()
        self.assertEqual([1], self.numbers())
        in_the_way.rmdir()
        self.pass_time(CHECK_SECONDS)
        self.assertEqual([1, 2], self.numbers())
        self.assertEqual([1, 2], self.numbers("journal"))

    def test_a_disk_that_is_full(self) -> None:
        """A snapshot that cannot be written leaves nothing on the disk, nor does one that was interrupted."""
        self.push_blob(b"x")
        left = self.layout.hosted_root / "hosted.snapshot-9.new"
        left.write_bytes(b"x")
        in_the_way = self.layout.hosted_root / "hosted.snapshot-2"
        in_the_way.mkdir()
        self.pass_an_hour()
        self.assertEqual([left], list(self.layout.hosted_root.glob("*.new")))
        in_the_way.rmdir()
        self.pass_time(CHECK_SECONDS)
        self.assertEqual([], list(self.layout.hosted_root.glob("*.new")))

    def test_a_disk_that_hangs(self) -> None:
        """While a snapshot is being written no other one is begun, although its deadline has passed."""
        self.push_blob(b"x")
        self.threads.hold("_take")
        self.pass_an_hour()
        self.threads.expire()
        self.pass_an_hour()
        self.assertEqual(1, self.threads.called.count("_take"))
        self.threads.release()
        self.pass_time(CHECK_SECONDS)
        self.assertEqual([1, 2], self.numbers())

    def test_damaged_ones_do_not_count(self) -> None:
        """The last two snapshots that are whole are kept, and the journals from the older of them on."""
        for number in range(4):
            if number == 3:
                path = self.newest().path
                path.write_bytes(path.read_bytes()[:-1])
            self.push_blob(b"%d" % number)
            self.pass_an_hour()
        self.assertEqual([3, 4, 5], self.numbers())
        self.assertEqual([3, 4, 5], self.numbers("journal"))

    def test_a_missing_index(self) -> None:
        """Without an index there is no snapshot, and no new index."""
        self.assertRaises(sqlite3.Error, write_snapshot, self.root / "none", self.root / "snapshot")
        self.assertEqual([], [*self.root.glob("none*"), *self.root.glob("snapshot*")])

    def test_damage(self) -> None:
        """A snapshot with any byte changed, or its end missing, is none."""
        self.push_manifest(IMAGE, V1)
        self.pass_an_hour()
        path = self.newest().path
        content = path.read_bytes()
        for place in range(0, len(content), 7):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            self.assertIsNone(Snapshot.open(path, 2), place)
            path.write_bytes(content[:place])
            self.assertIsNone(Snapshot.open(path, 2), place)

    def test_only_the_owner_may_look(self) -> None:
        """Everything in the hosted folder is accessible to the daemon's user only."""
        self.push_manifest(IMAGE, V1)
        self.pass_an_hour()
        for path in self.layout.hosted_root.rglob("*"):
            self.assertEqual(0, path.stat().st_mode & 0o077, path)


class HostedFolderTests(PushTestCase):
    def test_one_daemon_a_folder(self) -> None:
        """The folder of hosted repositories cannot be used by a daemon with another store."""
        error = self.assertRaises(StoreInUse, self.open_elsewhere)
        self.assertIn(str(self.layout.hosted_root), str(error))
        self.result(self.store.close())
        self.open_elsewhere()

    def open_elsewhere(self) -> None:
        hosted, self.root = self.layout.hosted_root, self.root.with_name("other")
        self.layout = Layout(self.root, hosted)
        self.store = self.open()

    def test_another_store(self) -> None:
        """A new store that gets the folder of hosted repositories of an old one has all that they had."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.result(self.store.close())
        self.open_elsewhere()
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))
        self.assertEqual(b"x", self.read_blob(Digest.of(b"x")))

    def test_a_journal_of_a_later_version(self) -> None:
        """Changes that this version does not know prevent the start with one line, and are not skipped."""
        self.push_blob(b"x")
        self.result(self.store.close())
        with journal_path(self.layout.hosted_root, 1).open("r+b") as file:
            file.seek(self.store._journal.size)
            file.write(encode(2, '{"at":0.0,"facts":[["pin","team/app"]]}'))
        error = self.assertRaises(LaterVersion, self.open)
        self.assertNotIn("\n", str(error))
        with journal_path(self.layout.hosted_root, 1).open("r+b") as file:
            file.truncate(self.store._journal.size)
        self.store = self.open()
