import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import Deferred

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.backup import GENERATIONS, BackupProgress, BackupShrinks, NoBackup, back_up, restore
from mirrord.store.disk import StoreInUse
from mirrord.store.layout import ContentFolder, Layout
from tests.fakes.stores import content_path
from tests.unit.store.cases import APP, V1, V2, WEB, PushTestCase, layer, manifest

IMAGE = manifest(layer(b"x"))
OTHER = manifest(layer(b"y"))


class BackupTests(PushTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = Path(self.mktemp())
        self.reports: list[BackupProgress] = []

    def back_up(self, *, may_link: bool = True, prunes: bool = False) -> BackupProgress:
        return back_up(self.layout, self.target, self.reports.append, may_link=may_link, prunes=prunes)

    def restore_here(self) -> BackupProgress:
        self.result(self.store.close())
        progress = restore(self.target, self.layout, self.reports.append)
        self.store = self.open()
        return progress

    def start_anew(self) -> None:
        """Open an empty store in another folder."""
        self.result(self.store.close())
        self.root = Path(self.mktemp())
        self.layout = Layout(self.root)
        self.store = self.open()

    def kept(self) -> set[str]:
        return {path.name for path in self.target.rglob("*") if path.is_file()} - {"backup.lock"}

    def test_a_backup_is_restored_into_an_empty_store(self) -> None:
        """Another store serves everything that was pushed, byte for byte, and nothing that was mirrored."""
        digest = self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        mirrored = self.add_blob(b"m")
        progress = self.back_up()
        self.assertEqual((2, 2, ()), (progress.entries, progress.copied, progress.lost))
        self.assertNotIn(mirrored.encoded, self.kept())
        self.start_anew()
        self.assertEqual(2, self.restore_here().copied)
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(digest), self.read_manifest(IMAGE.digest)))
        self.evict_all()
        self.assertEqual(b"x", self.read_blob(digest))

    def test_one_backup_at_a_time(self) -> None:
        """A second backup to the same folder, which would delete what the first copies, is refused."""
        self.push_blob(b"x")
        errors: list[OSError] = []

        def interfere(_: BackupProgress) -> None:
            errors.append(self.assertRaises(OSError, self.back_up))

        back_up(self.layout, self.target, interfere)
        self.assertTrue(errors)
        self.assertEqual({f"another backup to {self.target} is running"}, set(map(str, errors)))
        self.assertEqual(0, self.back_up().copied)

    def test_restored_content_is_listed_at_once(self) -> None:
        """A restored store lists its content before it has scanned its files, and counts it as hosted."""
        digest = self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        totals = self.store.hosted_gc.total_entries, self.store.hosted_gc.total_bytes
        self.back_up()
        self.start_anew()
        self.restore_here()
        self.assertEqual(1, self.store.browser.size_of(ContentKind.BLOB, digest))
        self.assertEqual([], [each for page in self.store.hosted.lost() for each in page])
        self.assertEqual(totals, (self.store.hosted_gc.total_entries, self.store.hosted_gc.total_bytes))
        reconciled = Deferred.fromCoroutine(self.store.reconciled())
        self.assertNoResult(reconciled)
        self.reconcile()
        self.successResultOf(reconciled)

    def test_the_next_backup_copies_new_content(self) -> None:
        """Content that is in the backup already is not copied again; that of earlier generations stays."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.back_up()
        self.push_manifest(OTHER, V1)
        self.result(self.store.hosted.delete(APP, IMAGE.digest))
        progress = self.back_up()
        self.assertEqual((2, 1, 0), (progress.entries, progress.copied, progress.removed))
        self.assertEqual(progress, self.reports[-1])
        self.assertIn(IMAGE.digest.encoded, self.kept())
        self.assertEqual(1, self.back_up(prunes=True).removed)
        self.assertNotIn(IMAGE.digest.encoded, self.kept())

    def test_generations(self) -> None:
        """The last generations are kept, and what was deleted before the oldest of them leaves the backup."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.back_up()
        self.push_manifest(OTHER)
        self.result(self.store.hosted.delete(APP, IMAGE.digest))
        removed = [self.back_up().removed for _ in range(GENERATIONS)]
        self.assertEqual([0] * (GENERATIONS - 1) + [1], removed)
        snapshots = [name for name in self.kept() if name.startswith("hosted.snapshot-")]
        self.assertEqual(GENERATIONS, len(snapshots))

    def test_a_backup_does_not_follow_a_loss(self) -> None:
        """A backup of a store with far less than the last generation is refused, unless it prunes."""
        for number in range(10):
            self.push_blob(b"%d" % number)
        self.back_up()
        kept = self.kept()
        for number in range(6):
            self.result(self.store.hosted.delete(APP, Digest.of(b"%d" % number)))
        error = self.assertRaises(BackupShrinks, self.back_up)
        self.assertNotIn("\n", str(error))
        self.assertEqual(kept, self.kept())
        self.assertEqual(4, self.back_up(prunes=True).entries)
        self.assertEqual(5, len(self.kept()))

    def test_what_an_interrupted_backup_left(self) -> None:
        """Files that a killed backup left are neither used nor kept."""
        digest = self.push_blob(b"x")
        path = ContentFolder(self.target).path(ContentKind.BLOB, digest)
        path.parent.mkdir(parents=True)
        for left in (self.target / "coming", path.with_name(f"{digest.encoded}.coming")):
            left.write_bytes(b"a part")
        self.assertEqual(1, self.back_up().copied)
        self.assertEqual({"hosted.snapshot-1", digest.encoded}, self.kept())

    def earlier_backup(self) -> None:
        """Make a backup as an earlier version did: the facts are in an index."""
        self.back_up()
        (self.target / "hosted.snapshot-1").unlink()
        with closing(sqlite3.connect(self.layout.index)) as connection:
            connection.execute("VACUUM INTO ?", (str(self.target / "index.sqlite"),))

    def test_a_backup_of_an_earlier_version(self) -> None:
        """It can be restored, and the next backup replaces it."""
        digest = self.push_blob(b"x")
        self.earlier_backup()
        self.start_anew()
        self.restore_here()
        self.assertEqual(b"x", self.read_blob(digest))
        self.back_up()
        self.assertEqual({"hosted.snapshot-1", digest.encoded}, self.kept())

    def test_an_upgrade_does_not_lose_the_backup(self) -> None:
        """A loss after an upgrade does not shrink the backup that the earlier version made."""
        self.push_blob(b"x")
        self.earlier_backup()
        kept = self.kept()
        self.start_anew()
        self.assertRaises(BackupShrinks, self.back_up)
        self.assertEqual(kept, self.kept())

    def test_restoring_into_a_store_with_content(self) -> None:
        """Tags in the backup are restored as they were; others stay."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.back_up()
        self.push_manifest(OTHER, V1, V2)
        self.push_manifest(OTHER, repository=WEB)
        self.assertEqual(0, self.restore_here().copied)
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))
        self.assertEqual(OTHER.descriptor, self.store.hosted.tag(APP, V2))
        self.assertTrue(self.has(OTHER.digest, WEB))

    def test_ages_continue(self) -> None:
        """Ages of restored rows are unchanged in a store with another service time."""
        self.push_blob(b"x")
        self.pass_time(500)
        self.result(self.store.eviction.flush())
        self.back_up()
        self.start_anew()
        self.pass_time(100_000)
        self.restore_here()
        ((touched,),) = self.store.database.select("SELECT touched FROM hosted_links", ())
        self.assertEqual(500.0, self.store.database.now() - touched)

    def test_damaged_content_is_restored(self) -> None:
        """A file that rotted on this disk, its length unchanged, is restored from the backup."""
        digest = self.push_blob(b"x" * 100_000)
        self.back_up(may_link=False)
        content_path(self.layout, ContentKind.BLOB, digest).write_bytes(b"y" * 100_000)
        self.assertEqual(1, self.restore_here().copied)
        self.assertEqual(b"x" * 100_000, self.read_blob(digest))

    def test_damaged_content_is_left_out(self) -> None:
        """Damaged content is neither backed up nor restored; both report it, and no link to it remains."""
        digest = self.push_blob(b"x" * 100_000)
        self.push_manifest(IMAGE, V1)
        content_path(self.layout, ContentKind.BLOB, digest).write_bytes(b"y" * 100_000)
        progress = self.back_up()
        self.assertEqual(((ContentKind.BLOB, digest),), progress.lost)
        self.start_anew()
        self.assertEqual(((ContentKind.BLOB, digest),), self.restore_here().lost)
        self.assertEqual((["v1"], False), (self.tags(), self.has(digest)))

    def test_damage_in_the_backup(self) -> None:
        """Content that has rotted in the backup is reported, and is not in the restored store."""
        digest, whole = self.push_blob(b"x" * 100_000), self.push_blob(b"whole")
        self.back_up(may_link=False)
        ContentFolder(self.target).path(ContentKind.BLOB, digest).write_bytes(b"y" * 100_000)
        self.start_anew()
        self.assertEqual(((ContentKind.BLOB, digest),), self.restore_here().lost)
        sizes = [self.store.browser.size_of(ContentKind.BLOB, each) for each in (digest, whole)]
        self.assertEqual(([None, 5], False), (sizes, self.has(digest)))

    def test_a_backup_that_is_cut_short(self) -> None:
        """Until the new index is in place, the old backup is complete."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.back_up()
        self.push_manifest(OTHER, V1)

        def stop(progress: BackupProgress) -> None:
            raise KeyboardInterrupt

        self.assertRaises(KeyboardInterrupt, back_up, self.layout, self.target, stop)
        self.start_anew()
        self.assertEqual((), self.restore_here().lost)
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))

    def test_refused_restores(self) -> None:
        """Restoring into a store in use, or from a folder without a backup, is refused."""
        self.back_up()
        self.assertRaises(StoreInUse, restore, self.target, self.layout, self.reports.append)
        error = self.assertRaises(NoBackup, restore, self.root / "blobs", self.layout, self.reports.append)
        self.assertNotIn("\n", str(error))

    def test_only_the_owner_may_look(self) -> None:
        """A backup is readable by the daemon's user only."""
        self.push_blob(b"x")
        self.back_up()
        for path in self.target.rglob("*"):
            self.assertEqual(0, path.stat().st_mode & 0o077, path)
