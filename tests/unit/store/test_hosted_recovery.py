"""Whatever happens to the index, what was acknowledged of hosted repositories stands."""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing

from twisted.internet.task import TaskFinished
from twisted.logger import capturedLogs, formatEvent

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_MANIFEST, Manifest
from mirrord.oci.referrer import Referrer
from mirrord.store.history import History
from mirrord.store.hosted_facts import BlobLinked
from mirrord.store.journal import HostedJournal, JournalDamaged, journal_path, numbered
from mirrord.store.recovery import HostedContentMissing, open_index
from mirrord.store.snapshots import CHECK_SECONDS, INTERVAL_SECONDS, KEPT, numbered_snapshots, snapshot_path
from tests.unit.store.cases import APP, UBUNTU, V1, V2, WEB, PushTestCase, layer, manifest

IMAGE = manifest(layer(b"x"))
OTHER = manifest(layer(b"y"), note="other")
SIGNATURE = Manifest.parse(
    json.dumps(
        {
            "mediaType": OCI_MANIFEST,
            "artifactType": "a/signature",
            "annotations": {"by": "me"},
            "layers": [],
            "subject": {"mediaType": OCI_MANIFEST, "digest": str(IMAGE.digest), "size": 1},
        }
    ).encode(),
    OCI_MANIFEST,
)

TABLES = ("hosted_links", "hosted_tags", "hosted_edges")


class HostedRecoveryTests(PushTestCase):
    def push_all(self) -> None:
        """Push, tag, retag and delete in two repositories."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1, V2)
        self.pass_time(10)
        self.push_blob(b"deleted")
        self.push_manifest(OTHER, V2)
        referrer = Referrer(IMAGE.digest, "a/signature", {"by": "me"})
        self.result(self.store.hosted.put_manifest(APP, SIGNATURE, [], referrer=referrer))
        self.push_blob(b"web", WEB)
        self.push_manifest(OTHER, V1, repository=WEB)
        self.pass_time(10)
        self.result(self.store.hosted.delete_tag(WEB, V1))
        self.result(self.store.hosted.delete(APP, Digest.of(b"deleted")))
        self.add_manifest(UBUNTU, manifest(note="mirrored"))

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Return the rows of all hosted tables."""
        with closing(sqlite3.connect(self.layout.index)) as connection:
            return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES}

    def check(self, damage: Callable[[], None], *, is_closed: bool = True) -> list[str]:
        """Damage the store between two starts; check that nothing is lost, and return the log."""
        self.push_all()
        expected = self.rows()
        if is_closed:
            self.result(self.store.close())
        else:
            self.crash()
        damage()
        with capturedLogs() as events:
            self.store = self.open()
        self.assertEqual(expected, self.rows())
        self.assertTrue(self.store.browser.has_file(ContentKind.BLOB, Digest.of(b"x")))
        self.assertTrue(self.store.browser.has_file(ContentKind.MANIFEST, OTHER.digest))
        self.reconcile()
        self.evict_all()
        self.assertEqual(b"x", self.read_blob(Digest.of(b"x")))
        self.assertEqual(OTHER.body, self.read_manifest(OTHER.digest))
        self.push_manifest(IMAGE, V2)
        self.reopen()
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V2))
        return [formatEvent(event) or "" for event in events]

    def crash(self) -> None:
        """End as by kill -9: the connections are not closed, so that the log of the index stays."""
        with contextlib.suppress(TaskFinished):
            self.store._reconciliation.stop()
        copies = {path: path.read_bytes() for path in self.root.glob("index.sqlite*")}
        self.result(self.store.close())
        for path in self.root.glob("index.sqlite*"):
            path.unlink()
        for path, content in copies.items():
            path.write_bytes(content)

    def put_back(self, content: bytes) -> None:
        self.layout.index.write_bytes(content)

    def test_no_damage(self) -> None:
        """An undamaged store says nothing about its index."""
        self.assertEqual([], self.check(lambda: None))

    def test_deleted(self) -> None:
        """A deleted index is rebuilt, and the log says so."""
        (line,) = self.check(self.layout.index.unlink)
        self.assertIn("it is missing", line)

    def test_emptied(self) -> None:
        """An index of no bytes is not a new store."""
        lines = self.check(lambda: self.put_back(b""))
        self.assertIn("it ends too early", lines[0])

    def test_emptied_after_a_kill(self) -> None:
        """An index of no bytes whose log is still there is rebuilt."""
        self.check(lambda: self.put_back(b""), is_closed=False)

    def test_a_rollback_journal(self) -> None:
        """A rollback journal beside a lost index, of a kill in the middle, is not applied to the new one."""

        def damage() -> None:
            self.put_back(b"")
            for path in (self.layout.index, self.layout.index.with_name("index.sqlite.new")):
                path.with_name(f"{path.name}-journal").write_bytes(self.rollback_journal())

        self.check(damage)

    def rollback_journal(self) -> bytes:
        """Return the rollback journal of a transaction that grows an empty file."""
        path = self.root / "other"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for sql in ("PRAGMA cache_size = 1", "BEGIN", "CREATE TABLE t (x)"):
                connection.execute(sql)
            connection.executemany("INSERT INTO t VALUES (?)", [(bytes(3000),)] * 100)
            journal = path.with_name("other-journal").read_bytes()
            connection.execute("ROLLBACK")
        self.assertNotEqual(0, journal[0])
        path.unlink()
        return journal

    def test_garbage(self) -> None:
        """An index of other bytes is set aside and made again."""
        self.check(lambda: self.put_back(b"this is no database " * 1000))
        self.assertTrue(self.layout.index.with_name("index.sqlite.broken-1").exists())

    def test_truncated_anywhere(self) -> None:
        """An index that ends too early, wherever, loses nothing."""
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        content = self.layout.index.read_bytes()
        for number in range(50):
            self.put_back(content[: len(content) * number // 50])
            self.store = self.open()
            self.assertEqual(expected, self.rows(), number)
            self.result(self.store.close())
        self.store = self.open()

    def test_tables_without_rows(self) -> None:
        """An index whose rows were all deleted, by a tool of SQLite for instance, is rebuilt."""

        def empty() -> None:
            with closing(sqlite3.connect(self.layout.index)) as connection, connection:
                for table in (*TABLES, "meta", "content", "links", "tags"):
                    connection.execute(f"DELETE FROM {table}")

        lines = self.check(empty)
        self.assertIn("it was emptied", lines[0])

    def test_rolled_back(self) -> None:
        """An older copy of the index that is put back is brought up to date."""
        self.push_blob(b"before")
        self.result(self.store.close())
        old = self.layout.index.read_bytes()
        self.store = self.open()
        lines = self.check(lambda: self.put_back(old))
        self.assertIn("behind the journal", lines[0])

    def test_rolled_back_after_a_kill(self) -> None:
        """An older copy beside the log of the newer index, which do not belong together, loses nothing."""
        self.push_blob(b"before")
        self.result(self.store.close())
        old = self.layout.index.read_bytes()
        self.store = self.open()
        self.check(lambda: self.put_back(old), is_closed=False)

    def test_rolled_back_beyond_the_journal(self) -> None:
        """A copy that is older than the journal gets the hosted tables of a snapshot."""
        self.push_blob(b"before")
        self.result(self.store.close())
        old = self.layout.index.read_bytes()
        self.store = self.open()
        for number in range(KEPT + 1):
            self.push_blob(b"%d" % number)
            self.snapshot()
        self.assertNotIn(1, numbered(self.layout.hosted_root, "journal"))
        self.check(lambda: self.put_back(old))

    def test_without_its_log(self) -> None:
        """An index whose log was deleted after a kill is brought up to date."""
        self.check(self.layout.index.with_name("index.sqlite-wal").unlink, is_closed=False)

    def test_a_power_cut_takes_commits(self) -> None:
        """Commits that were not synced are repeated."""
        self.check(
            lambda: os.truncate(self.layout.index.with_name("index.sqlite-wal"), 4096), is_closed=False
        )

    def test_a_damaged_snapshot(self) -> None:
        """A snapshot that is damaged is not used; the one before it is."""
        for number in range(2):
            self.push_blob(b"%d" % number)
            self.snapshot()

        def damage() -> None:
            self.layout.index.unlink()
            path = snapshot_path(self.layout.hosted_root, max(numbered(self.layout.hosted_root, "snapshot")))
            path.write_bytes(path.read_bytes()[:-10])

        self.check(damage)

    def test_a_lost_journal(self) -> None:
        """An index whose journal is lost is not trimmed to it."""

        def damage() -> None:
            for path in self.layout.hosted_root.glob("hosted.*"):
                path.unlink()

        self.check(damage)

    def test_lost_journals_beside_snapshots(self) -> None:
        """Snapshots that are older than the index do not take the place of those that are taken later."""
        for number in range(KEPT + 1):
            self.push_blob(b"%d" % number)
            self.snapshot()

        def damage() -> None:
            for path in self.layout.hosted_root.glob("hosted.journal-*"):
                path.unlink()

        self.push_blob(b"last")
        self.check(damage)
        expected = self.rows()
        self.result(self.store.close())
        self.layout.index.unlink()
        self.store = self.open()
        self.assertEqual(expected, self.rows())

    def test_a_snapshot_that_fails_at_the_start(self) -> None:
        """A start that ends before it has recorded what the journal lacks does not begin a new journal."""
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        with journal_path(self.layout.hosted_root, 1).open("r+b") as file:
            file.truncate(self.store._journal.size - 10)
        in_the_way = self.layout.hosted_root / "hosted.snapshot-2.new"
        in_the_way.mkdir()
        for _ in range(2):
            self.assertRaises(OSError, self.open)
        self.assertEqual([1], numbered(self.layout.hosted_root, "journal"))
        in_the_way.rmdir()
        self.reopen_closed()
        self.layout.index.unlink()
        self.reopen_closed()
        self.store = self.open()
        self.assertEqual(expected, self.rows())

    def test_service_time_is_not_rolled_back(self) -> None:
        """Service time is not before the last change, although an older copy of the index is put back."""
        self.result(self.store.close())
        old = self.layout.index.read_bytes()
        self.store = self.open()
        self.pass_time(10_000)
        self.check(lambda: self.put_back(old))
        self.assertGreaterEqual(self.store.database.now(), 10_000)

    def test_an_aborted_transaction_is_no_change(self) -> None:
        """A start after a transaction that could not be committed has nothing to repeat, nor to report."""

        def fail() -> None:
            journal = History.read(self.layout.hosted_root).resume(0.0)
            journal.abort(journal.append([BlobLinked("team/app", str(OTHER.digest), 1, 0.0, 0.0)], 0.0), 0.0)
            journal.close()

        self.assertEqual([], self.check(fail))

    def test_a_folder_that_is_not_mounted(self) -> None:
        """A hosted folder that is empty although there is hosted content is refused until it is back."""
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        hosted, away = self.layout.hosted_root, self.root / "away"
        hosted.rename(away)
        for _ in range(2):
            error = self.assertRaises(HostedContentMissing, self.open)
            self.assertNotIn("\n", str(error))
        shutil.rmtree(hosted)
        away.rename(hosted)
        self.store = self.open()
        self.assertEqual(expected, self.rows())

    def test_a_folder_that_is_lost(self) -> None:
        """Without its hosted folder and without its index, a store begins anew."""
        self.push_all()
        self.result(self.store.close())
        shutil.rmtree(self.layout.hosted_root)
        self.layout.index.rename(self.root / "moved away")
        self.store = self.open()
        self.push_blob(b"new")
        self.assertTrue(self.has(Digest.of(b"new")))

    def test_a_damaged_index_without_snapshots(self) -> None:
        """If nothing else is left, what can be read of a damaged index is kept."""
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        shutil.rmtree(self.layout.hosted_root / "scratch")
        for path in self.layout.hosted_root.glob("hosted.*"):
            path.unlink()
        with closing(sqlite3.connect(self.layout.index)) as connection, connection:
            connection.execute("DROP TABLE content")
        self.store = self.open()
        self.assertEqual(expected, self.rows())

    def test_a_damaged_index_and_damaged_snapshots(self) -> None:
        """If only the sequence of an index can still be read, the changes of the journal are repeated."""
        for number in range(KEPT + 1):
            self.push_blob(b"%d" % number)
            for _ in range(int(INTERVAL_SECONDS / CHECK_SECONDS) + 1):
                self.pass_time(CHECK_SECONDS)
        self.push_all()
        self.result(self.store.close())
        for path in self.layout.hosted_root.glob("hosted.snapshot-*"):
            path.write_bytes(path.read_bytes()[:-1])
        with closing(sqlite3.connect(self.layout.index)) as connection, connection:
            connection.execute("DROP TABLE hosted_links")
        self.store = self.open()
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))
        self.assertFalse(self.has(Digest.of(b"deleted")))
        self.reconcile()
        self.assertEqual(b"x", self.read_blob(Digest.of(b"x")))

    def test_a_damaged_journal(self) -> None:
        """A journal that lost changes prevents the start; a repair keeps all that can be read."""
        for number in range(3):
            self.push_blob(b"%d" % number)
        self.result(self.store.close())
        self.layout.index.unlink()
        path = journal_path(self.layout.hosted_root, 1)
        content = bytearray(path.read_bytes())
        content[content.index(Digest.of(b"1").encoded.encode())] ^= 1
        path.write_bytes(content)
        error = self.assertRaises(JournalDamaged, self.open)
        self.assertNotIn("\n", str(error))
        opened = open_index(self.layout, accepts_damage=True)
        for connection in (opened.reader, opened.writer, opened.journal):
            connection.close()
        self.store = self.open()
        self.assertEqual([True, False, True], [self.has(Digest.of(b"%d" % number)) for number in range(3)])

    def test_upgrade(self) -> None:
        """An index of a version without a journal becomes the first snapshot; then it may be lost."""
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        with closing(sqlite3.connect(self.layout.index)) as connection, connection:
            connection.execute("DELETE FROM meta WHERE name = 'hosted_sequence'")
            connection.execute("PRAGMA user_version = 2")
        for path in self.layout.hosted_root.glob("hosted.*"):
            path.unlink()
        self.store = self.open()
        self.assertEqual(expected, self.rows())
        self.result(self.store.close())
        self.layout.index.unlink()
        self.store = self.open()
        self.assertEqual(expected, self.rows())

    def test_an_earlier_version_without_index(self) -> None:
        """The copy that earlier versions made replaces an index that is lost before the first snapshot."""
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        for path in self.layout.hosted_root.glob("hosted.*"):
            path.unlink()
        self.layout.index.rename(self.layout.copy)
        self.store = self.open()
        self.assertEqual(expected, self.rows())
        self.assertFalse(self.layout.copy.exists())

    def reopen_closed(self) -> None:
        """Start, and end cleanly."""
        self.store = self.open()
        self.result(self.store.close())

    def test_a_killed_first_start_without_index(self) -> None:
        """A first start that was killed between its journal and its snapshot is begun again."""
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        for path in self.layout.hosted_root.glob("hosted.*"):
            path.unlink()
        self.layout.index.rename(self.layout.copy)
        HostedJournal.create(self.layout.hosted_root, 1, 0, 0.0).close()
        self.store = self.open()
        self.assertEqual(expected, self.rows())

    def test_lost_snapshots_and_a_damaged_index(self) -> None:
        """A journal without its snapshot completes what can be read of a damaged index."""
        self.push_blob(b"before")
        self.result(self.store.close())
        old = self.layout.index.read_bytes()
        self.store = self.open()
        self.push_all()
        expected = self.rows()
        self.result(self.store.close())
        for number in numbered_snapshots(self.layout.hosted_root):
            snapshot_path(self.layout.hosted_root, number).unlink()
        self.put_back(old)
        with closing(sqlite3.connect(self.layout.index)) as connection:
            connection.execute("DROP TABLE content")
        self.store = self.open()
        self.assertEqual(expected, self.rows())

    def snapshot(self) -> None:
        self.pass_time(INTERVAL_SECONDS + CHECK_SECONDS)
