import sqlite3
from collections.abc import Iterator
from contextlib import closing

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store.disk import StoreInUse
from mirrord.store.reconciliation import Reconciliation
from mirrord.store.schema import VERSION, LaterVersion, connect
from tests.fakes.stores import content_path
from tests.unit.store.cases import LATEST, UBUNTU, StoreTestCase, layer, manifest, observation

IMAGE = manifest(layer(b"x"))


class ReconciliationTests(StoreTestCase):
    def totals(self) -> tuple[int, int]:
        return self.store.eviction.total_entries, self.store.eviction.total_bytes

    def test_unknown_files_are_adopted(self) -> None:
        """Blobs and manifests that the index lacks are adopted, slice by slice."""
        digests = [self.add_blob(b"%d" % number) for number in range(100)]
        self.add_manifest(UBUNTU, IMAGE)
        self.kill()
        self.assertEqual((0, 0), self.totals())
        self.reconcile()
        self.assertEqual((101, 101 * 4096), self.totals())
        self.reopen()
        self.assertEqual((101, 101 * 4096), self.totals())
        self.assertEqual(b"7", self.read_blob(digests[7]))

    def test_rows_without_a_file_are_dropped(self) -> None:
        """Content whose file was deleted is no longer counted."""
        digest = self.add_blob(b"x")
        kept = self.add_blob(b"y")
        self.reopen()
        content_path(self.layout, ContentKind.BLOB, digest).unlink()
        self.reconcile()
        self.assertEqual((1, 4096), self.totals())
        self.assertEqual(b"y", self.read_blob(kept))

    def test_unknown_files_are_left_alone(self) -> None:
        """A file that is not named by a digest is neither adopted nor deleted."""
        digest = self.add_blob(b"x")
        stranger = content_path(self.layout, ContentKind.BLOB, digest).with_name("notes.txt")
        stranger.write_text("mine")
        self.reopen()
        self.reconcile()
        self.assertEqual((1, 4096), self.totals())
        self.assertTrue(stranger.exists())

    def test_concurrent_commits_are_counted_once(self) -> None:
        """A blob that is committed or evicted while recovery runs is counted as it is."""
        self.add_blob(b"x")
        self.kill()
        self.threads.hold()
        self.clock.advance(0)
        self.threads.is_held = False
        self.add_blob(b"y")
        self.threads.release()
        self.reconcile()
        self.assertEqual((2, 2 * 4096), self.totals())

    def begin_until_listed(self, digest: Digest) -> Iterator[object]:
        """Return a recovery of its own that has just listed the folder of this blob."""
        contents = self.store.contents
        slices = Reconciliation(
            layout=self.layout,
            contents=contents,
            hosted=self.store.hosted,
            files=self.store.hosted._files,
            quarantine=self.store.quarantine,
            threads=self.threads,
        ).slices()
        self.threads.called.clear()
        for number, folder in enumerate(self.layout.mirrored.fan_outs(), 1):
            if folder.path == content_path(self.layout, ContentKind.BLOB, digest).parent:
                while self.threads.called.count("read") < number:
                    next(slices)
        return slices

    def test_eviction_after_the_listing_is_not_adopted(self) -> None:
        """A file that is evicted after its folder was listed is not counted."""
        digest = self.add_blob(b"x")
        self.kill()
        slices = self.begin_until_listed(digest)
        self.store.blobs.size_of(digest)
        self.result(
            self.store.eviction.evict(
                [Entry(kind=ContentKind.BLOB, name=str(digest), size=4096, idle_seconds=0.0)]
            )
        )
        list(slices)
        self.assertEqual((0, 0), self.totals())

    def test_a_commit_after_the_listing_is_not_dropped(self) -> None:
        """A blob that is committed after its folder was listed stays."""
        slices = self.begin_until_listed(Digest.of(b"x"))
        self.add_blob(b"x")
        self.result(self.store.eviction.flush())
        list(slices)
        self.assertEqual((1, 4096), self.totals())

    def test_closing_ends_it(self) -> None:
        """A store may be closed while recovery still runs."""
        self.add_blob(b"x")
        self.kill()
        self.clock.advance(0)
        self.reopen()


class OpeningTests(StoreTestCase):
    def test_one_daemon_a_store(self) -> None:
        """A store that is in use cannot be opened; once it is closed it can."""
        error = self.assertRaises(StoreInUse, self.open)
        self.assertNotIn("\n", str(error))
        self.reopen()

    def test_a_broken_index_is_set_aside(self) -> None:
        """An index that cannot be read is renamed, and the files are adopted by a new one."""
        digest = self.add_blob(b"x" * 100_000)
        self.result(self.store.close())
        for number in (1, 2):
            self.layout.index.write_bytes(b"this is no database " * 1000)
            self.store = self.open()
            self.assertTrue(self.layout.index.with_name(f"index.sqlite.broken-{number}").exists())
            self.reconcile()
            self.assertEqual(b"x" * 100_000, self.read_blob(digest))
            self.result(self.store.close())
        self.store = self.open()
        self.assertEqual(1, self.store.eviction.total_entries)

    def test_an_incomplete_index_is_set_aside(self) -> None:
        """An index that lacks a table or a column is renamed, and the daemon starts with a new one."""
        digest = self.add_blob(b"x")
        damages = [f"DROP TABLE {name}" for name in ("content", "links", "tags", "meta")]
        damages.append("ALTER TABLE links DROP COLUMN size")
        for number, damage in enumerate(damages, 1):
            self.result(self.store.close())
            connection = sqlite3.connect(self.layout.index)
            connection.execute(damage)
            connection.close()
            self.store = self.open()
            self.assertTrue(self.layout.index.with_name(f"index.sqlite.broken-{number}").exists())
            self.assertEqual(b"x", self.read_blob(digest))

    def test_an_index_found_damaged_is_set_aside_by_the_next_start(self) -> None:
        """A damaged page raises OSError until the restart, which sets the index aside."""
        links = [layer(b"%d" % number) for number in range(1000)]
        digest = self.add_blob(b"x")
        for table in ("links", "tags"):
            self.store.index.add_links(UBUNTU, links)
            self.store.index.observe_tag(UBUNTU, LATEST, observation(IMAGE))
            self.result(self.store.close())
            self.damage(table)
            self.store = self.open()
            self.assertRaises(OSError, self.read, table)
            self.reopen()
            self.assertIsNone(self.read(table))
            self.assertEqual(b"x", self.read_blob(digest))
            self.assertFalse(self.layout.condemned.exists())
        self.assertEqual(2, len(list(self.root.glob("index.sqlite.broken-*"))))

    def test_damage_found_by_a_batch_is_set_aside_too(self) -> None:
        """Damage that a batch finds condemns the index, and is reported until the restart."""
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT | 3 << 8
        self.threads.failures["_run"] = error
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(0.5)
        self.assertIn("malformed", self.store.trouble or "")
        self.reopen()
        self.assertIsNone(self.store.trouble)
        self.assertTrue(self.layout.index.with_name("index.sqlite.broken-1").exists())

    def test_a_disk_that_fails_condemns_nothing(self) -> None:
        """A temporary failure (a full disk, an I/O error) leaves the index in place."""
        self.threads.failures["_run"] = sqlite3.OperationalError("disk I/O error")
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.reopen()
        self.assertEqual([], list(self.root.glob("index.sqlite.*")))

    def test_an_index_that_cannot_be_opened_stays(self) -> None:
        """Where the file cannot even be opened the start fails with one line, and nothing is renamed."""
        self.result(self.store.close())
        kept = self.layout.index.rename(self.layout.index.with_name("kept"))
        self.layout.index.mkdir()
        error = self.assertRaises(OSError, self.open)
        self.assertNotIn("\n", str(error))
        self.layout.index.rmdir()
        kept.rename(self.layout.index)
        self.store = self.open()
        self.assertEqual([], list(self.root.glob("index.sqlite.*")))

    def read(self, table: str) -> object:
        index = self.store.index
        return index.tag(UBUNTU, LATEST) if table == "tags" else index.link(UBUNTU, layer(b"0").digest)

    def damage(self, table: str) -> None:
        """Overwrite the first page of a table."""
        connection = sqlite3.connect(self.layout.index)
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        ((size,),) = connection.execute("PRAGMA page_size")
        connection.close()
        with self.layout.index.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)

    def test_an_index_of_a_later_version_is_left_alone(self) -> None:
        """An index that a later mirrord wrote fails the start with one line, and is used again by that."""
        self.result(self.store.close())
        self.set_version(99)
        error = self.assertRaises(LaterVersion, self.open)
        self.assertNotIn("\n", str(error))
        self.assertEqual([self.layout.index], list(self.root.glob("index.sqlite*")))
        self.set_version(VERSION)
        self.store = self.open()

    def set_version(self, version: int) -> None:
        with closing(sqlite3.connect(self.layout.index)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")

    def test_scratch_is_emptied(self) -> None:
        """Files that were being written or deleted when an earlier run ended are gone."""
        (self.layout.mirrored.scratch / "gone-1").write_bytes(b"x")
        self.reopen()
        self.assertEqual([], list(self.layout.mirrored.scratch.iterdir()))

    def test_only_the_owner_may_look(self) -> None:
        """Folders and files are accessible to the daemon's user only."""
        self.add_manifest(UBUNTU, IMAGE)
        self.add_blob(b"x")
        self.result(self.result(self.store.blobs.create_partial(Digest.of(b"y"), is_kept=True)).write(b"y"))
        for path in self.root.rglob("*"):
            self.assertEqual(0, path.stat().st_mode & 0o077, path)

    def test_everything_stored_is_served_after_a_restart(self) -> None:
        """Blobs, manifests, tags and links are there after a restart, with their totals."""
        digest = self.add_blob(b"x")
        self.add_manifest(UBUNTU, IMAGE)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(IMAGE))
        totals = self.store.eviction.total_bytes
        self.reopen()
        self.assertEqual(totals, self.store.eviction.total_bytes)
        record = self.store.index.tag(UBUNTU, LATEST)
        assert record is not None
        self.assertEqual(observation(IMAGE), record.cached)
        self.assertEqual(b"x", self.read_blob(digest))

    def test_a_power_cut_does_not_damage_the_index(self) -> None:
        """The index has a write-ahead log, which is synced before the file changes (synchronous=NORMAL)."""
        connection = connect(self.layout.index)
        self.addCleanup(connection.close)
        self.assertEqual(("wal",), connection.execute("PRAGMA journal_mode").fetchone())
        self.assertEqual((1,), connection.execute("PRAGMA synchronous").fetchone())
