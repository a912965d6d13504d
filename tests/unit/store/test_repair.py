"""A damaged journal costs no more than the changes that nothing else records, and a repair names them."""

from mirrord.oci.digest import Digest
from mirrord.store.history import DamagedJournal
from mirrord.store.journal import JournalDamaged, journal_path
from mirrord.store.recovery import repair
from mirrord.store.snapshots import CHECK_SECONDS, INTERVAL_SECONDS
from tests.unit.store.cases import PushTestCase


class RepairTests(PushTestCase):
    def push_all(self, *bodies: bytes) -> None:
        for body in bodies:
            self.push_blob(body)

    def snapshot(self) -> None:
        self.pass_time(INTERVAL_SECONDS + CHECK_SECONDS)

    def damage(self, number: int, body: bytes) -> None:
        """Flip a bit in the record of a blob."""
        path = journal_path(self.layout.hosted_root, number)
        content = bytearray(path.read_bytes())
        content[content.index(Digest.of(body).encoded.encode())] ^= 1
        path.write_bytes(content)

    def zero(self, number: int, stop: int | None = None) -> None:
        """Fill a journal file with zeros, to before `stop`."""
        path = journal_path(self.layout.hosted_root, number)
        content = path.read_bytes()
        path.write_bytes(bytes(len(content[:stop])) + (b"" if stop is None else content[stop:]))

    def repair(self) -> DamagedJournal:
        """Check that the store cannot be opened; repair and open it; return the damaged file."""
        error = self.assertRaises(JournalDamaged, self.open)
        self.assertNotIn("\n", str(error))
        self.assertIn("mirrord repair", str(error))
        (damaged,) = repair(self.layout)
        self.assertEqual([False, True], [path.exists() for path in (damaged.path, damaged.aside)])
        self.assertEqual((), repair(self.layout))
        self.store = self.open()
        return damaged

    def present(self, *bodies: bytes) -> list[bool]:
        return [self.has(Digest.of(body)) for body in bodies]

    def test_nothing_to_repair(self) -> None:
        """A repair of an undamaged store changes nothing."""
        self.push_all(b"a")
        self.result(self.store.close())
        before = {path: path.read_bytes() for path in self.root.rglob("hosted.*")}
        self.assertEqual((), repair(self.layout))
        self.assertEqual(before, {path: path.read_bytes() for path in self.root.rglob("hosted.*")})
        self.store = self.open()

    def test_only_the_journal_is_damaged(self) -> None:
        """With the index nothing is lost, whatever cannot be read of the journal."""
        self.push_all(b"a", b"b", b"c")
        self.result(self.store.close())
        self.damage(1, b"b")
        damaged = self.repair()
        self.assertEqual(((), None), (damaged.lost, damaged.lost_after))
        self.assertEqual([True] * 3, self.present(b"a", b"b", b"c"))

    def test_the_index_is_lost_too(self) -> None:
        """Without index and snapshot exactly the changes are lost that cannot be read."""
        self.push_all(b"a", b"b", b"c", b"d", b"e")
        self.result(self.store.close())
        self.layout.index.unlink()
        for body in (b"b", b"d"):
            self.damage(1, body)
        damaged = self.repair()
        self.assertEqual(((range(2, 3), range(4, 5)), None), (damaged.lost, damaged.lost_after))
        bodies = (b"a", b"b", b"c", b"d", b"e")
        self.assertEqual([True, False, True, False, True], self.present(*bodies))

    def test_a_snapshot_covers_it(self) -> None:
        """Without the index nothing is lost that a snapshot has, and the repair ends although it prunes."""
        for body in (b"a", b"b", b"c"):
            self.push_all(body)
            self.snapshot()
        self.push_all(b"d")
        self.result(self.store.close())
        self.layout.index.unlink()
        self.zero(3)
        damaged = self.repair()
        self.assertEqual(((), None), (damaged.lost, damaged.lost_after))
        self.assertEqual([True] * 4, self.present(b"a", b"b", b"c", b"d"))

    def test_an_old_index_and_a_snapshot(self) -> None:
        """An older copy of the index is not preferred to a snapshot that has the changes in between."""
        self.push_all(b"a")
        self.result(self.store.close())
        old = self.layout.index.read_bytes()
        self.store = self.open()
        self.push_all(b"b", b"c")
        self.snapshot()
        self.push_all(b"d")
        self.result(self.store.close())
        self.layout.index.write_bytes(old)
        self.damage(1, b"b")
        damaged = self.repair()
        self.assertEqual(((), None), (damaged.lost, damaged.lost_after))
        self.assertEqual([True] * 4, self.present(b"a", b"b", b"c", b"d"))

    def test_a_file_without_its_header(self) -> None:
        """The changes of a file are kept although its header cannot be read."""
        self.push_all(b"a", b"b")
        self.result(self.store.close())
        self.layout.index.unlink()
        self.zero(1, stop=20)
        damaged = self.repair()
        self.assertEqual(((), None), (damaged.lost, damaged.lost_after))
        self.assertEqual([True, True], self.present(b"a", b"b"))

    def test_nothing_of_the_last_file_can_be_read(self) -> None:
        """Without the index nobody knows how much was in a file of which nothing can be read."""
        self.push_all(b"a", b"b")
        self.snapshot()
        self.push_all(b"c", b"d")
        self.result(self.store.close())
        self.layout.index.unlink()
        self.zero(2)
        damaged = self.repair()
        self.assertEqual(((), 2), (damaged.lost, damaged.lost_after))
        self.assertEqual([True, True, False], self.present(b"a", b"b", b"c"))

    def test_the_index_is_ahead_of_a_file_that_cannot_be_read(self) -> None:
        """With the index nothing is lost of a file of which nothing can be read."""
        self.push_all(b"a")
        self.snapshot()
        self.push_all(b"b")
        self.result(self.store.close())
        self.zero(2)
        damaged = self.repair()
        self.assertEqual(((), None), (damaged.lost, damaged.lost_after))
        self.assertEqual([True, True], self.present(b"a", b"b"))
