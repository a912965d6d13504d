"""An index that is found damaged while it is in use takes no more changes, and the next start replaces it."""

import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.store.journal import journal_path
from mirrord.store.snapshots import CHECK_SECONDS, INTERVAL_SECONDS, numbered_snapshots
from tests.unit.store.cases import APP, UBUNTU, V1, V2, WEB, PushTestCase, layer, manifest

IMAGE, OTHER = manifest(layer(b"x")), manifest(layer(b"x"), note="other")


class CondemnedIndexTests(PushTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.add_manifest(UBUNTU, IMAGE)
        self.reasons: list[str] = []

    def damage(self, table: str) -> None:
        """Overwrite the first page of a table between two starts, in a way that a start does not notice."""
        self.result(self.store.close())
        with closing(sqlite3.connect(self.layout.index)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            ((page,),) = connection.execute(query, (table,))
            ((size,),) = connection.execute("PRAGMA page_size")
        with self.layout.index.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
        self.store = self.open()
        self.store.damaged.addCallback(self.reasons.append)

    def condemn(self) -> None:
        """Let the store find a damaged page."""
        self.damage("hosted_tags")
        self.assertIsNone(self.store.trouble)
        self.assertRaises(OSError, self.tags)

    def assert_refused(self, change: Coroutine[Any, Any, Any]) -> None:
        self.assertIn("damaged", str(self.failure(change, OSError)))

    def test_reported_once(self) -> None:
        """Damage is reported once, with its reason, however often it is met."""
        self.condemn()
        self.assertRaises(OSError, self.tags)
        self.assertEqual(["database disk image is malformed"], self.reasons)

    def test_for_good(self) -> None:
        """The index stays in trouble, for one reason, whatever is read or written afterwards."""
        self.condemn()
        trouble = self.store.trouble
        self.assertIn("damaged", trouble or "")
        self.store.index.add_links(UBUNTU, [layer(b"y")])
        self.clock.advance(200)
        self.assertEqual(trouble, self.store.trouble)

    def test_nothing_more_is_written(self) -> None:
        """No batch is written to a damaged index, nor a transaction that waited when the damage was found."""
        self.damage("hosted_tags")
        self.threads.hold("_run")
        self.store.index.add_links(UBUNTU, [layer(b"y")])
        self.clock.advance(1)
        waiting = Deferred.fromCoroutine(self.store.hosted.delete(APP, IMAGE.digest))
        self.assertRaises(OSError, self.tags)
        self.threads.called.clear()
        self.threads.release()
        self.failureResultOf(waiting, OSError)
        self.store.index.add_links(UBUNTU, [layer(b"z")])
        self.clock.advance(200)
        self.assertNotIn("_run", self.threads.called)

    def test_changes_are_refused(self) -> None:
        """No change of a hosted repository is accepted, and nothing is received or written for one."""
        self.condemn()
        before = sorted(self.root.rglob("*"))
        journal = journal_path(self.layout.hosted_root, 1).read_bytes()
        hosted = self.store.hosted
        self.assert_refused(self.store.uploads.begin(APP, "ann"))
        self.assert_refused(hosted.add_blob(WEB, Descriptor(OCTET_STREAM, Digest.of(b"x"), 1)))
        self.assert_refused(hosted.put_manifest(APP, OTHER, [V2]))
        self.assert_refused(hosted.delete_tag(APP, V1))
        self.assert_refused(hosted.delete(APP, IMAGE.digest))
        self.assert_refused(hosted.delete_repository(APP))
        self.assert_refused(self.store.hosted_gc.remove([]))
        self.assert_refused(self.store.hosted_gc.return_to_cache([]))
        self.assertEqual(before, sorted(self.root.rglob("*")))
        self.assertEqual(journal, journal_path(self.layout.hosted_root, 1).read_bytes())

    def test_a_running_upload(self) -> None:
        """An upload that has begun is refused at its end, and can be continued after the next start."""
        self.result(self.store.close())
        self.store = self.open()
        begun = self.result(self.store.uploads.begin(APP, "ann"))
        self.result(begun.write(b"large"))
        self.store.database.translate(corruption())
        self.assert_refused(begun.commit(Digest.of(b"large")))
        begun.release()
        self.assert_refused(self.store.uploads.find(APP, begun.session))
        self.reopen()
        found = self.result(self.store.uploads.find(APP, begun.session))
        assert found is not None
        self.result(found.commit(Digest.of(b"large")))
        self.assertTrue(self.has(Digest.of(b"large")))

    def test_reads_go_on(self) -> None:
        """What is not on the damaged page is served as before."""
        self.condemn()
        self.assertEqual(b"x", self.read_blob(Digest.of(b"x")))
        self.assertIsNotNone(self.store.index.link(UBUNTU, IMAGE.digest))

    def test_the_next_start(self) -> None:
        """The next start makes a new index, which has everything that was pushed and takes changes."""
        self.condemn()
        self.reopen()
        self.assertIsNone(self.store.trouble)
        self.assertEqual(["v1"], self.tags())
        self.push_manifest(OTHER, V2)
        self.assertEqual(["v1", "v2"], self.tags())
        self.assertTrue(self.layout.index.with_name("index.sqlite.broken-1").exists())

    def test_a_read_only_disk(self) -> None:
        """Damage is reported also where the disk does not take the mark for the next start."""
        self.layout.condemned.symlink_to(self.root / "missing" / "file")
        self.condemn()
        self.assertEqual(1, len(self.reasons))
        self.layout.condemned.unlink()
        self.store.database.translate(corruption())
        self.assertEqual(1, len(self.reasons))

    def test_found_by_a_snapshot(self) -> None:
        """Damage that a snapshot meets condemns the index; no snapshot replaces the earlier ones."""
        before = numbered_snapshots(self.layout.hosted_root)
        self.damage("hosted_tags")
        self.push_blob(b"y")
        self.pass_time(INTERVAL_SECONDS + CHECK_SECONDS)
        self.assertEqual(1, len(self.reasons))
        self.assertTrue(self.layout.condemned.exists())
        self.pass_time(INTERVAL_SECONDS + CHECK_SECONDS)
        self.assertEqual(before, numbered_snapshots(self.layout.hosted_root))
        self.reopen()
        self.assertEqual(["v1"], self.tags())
        self.assertTrue(self.has(Digest.of(b"y")))


def corruption() -> sqlite3.DatabaseError:
    """Return the error of SQLite for a damaged page."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
