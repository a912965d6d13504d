import os
import sqlite3

from mirrord.oci.digest import Digest
from mirrord.store.copies import FIRST_SECONDS, INTERVAL_SECONDS
from tests.unit.store.cases import APP, UBUNTU, V1, V2, PushTestCase, layer, manifest

IMAGE = manifest(layer(b"x"))


class CopiesTests(PushTestCase):
    def break_index(self) -> None:
        """Damage the index as a worn card may."""
        self.layout.index.write_bytes(b"this is no database " * 1000)

    def copies_made(self) -> int:
        return self.threads.called.count("copy_hosted")

    def test_a_broken_index_is_replaced_by_the_copy(self) -> None:
        """After a clean stop and a broken index everything that was pushed is served again."""
        digest = self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.add_manifest(UBUNTU, manifest(note="mirrored"))
        self.result(self.store.close())
        self.break_index()
        self.store = self.open()
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))
        self.assertTrue(self.has(digest))
        self.reconcile()
        self.evict_all()
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(digest), self.read_manifest(IMAGE.digest)))

    def test_ages_continue(self) -> None:
        """Ages of hosted rows are neither zero nor negative in a restored index."""
        self.pass_time(5000)
        self.push_blob(b"x")
        self.pass_time(500)
        self.result(self.store.close())
        self.break_index()
        self.store = self.open()
        self.assertEqual([], list(self.unlink_unreferenced(600)))
        self.pass_time(600)
        self.assertEqual([Digest.of(b"x")], list(self.unlink_unreferenced(600)))

    def test_a_deleted_index_is_replaced_too(self) -> None:
        """A deleted index is restored from the copy."""
        self.push_manifest(IMAGE, V1)
        self.result(self.store.close())
        self.layout.index.unlink()
        self.store = self.open()
        self.assertEqual(["v1"], self.tags())

    def test_a_copy_that_cannot_be_read(self) -> None:
        """Without a readable copy the store starts empty, and accepts pushes."""
        self.push_manifest(IMAGE, V1)
        self.result(self.store.close())
        self.break_index()
        self.layout.copy.write_bytes(os.urandom(10_000))
        self.store = self.open()
        self.assertEqual([], self.tags())
        self.push_manifest(IMAGE, V2)
        self.assertEqual(["v2"], self.tags())

    def test_copies_are_made_while_there_are_changes(self) -> None:
        """The first change is copied within a minute, later ones within the hour, and none without any."""
        self.push_manifest(IMAGE, V1)
        self.clock.advance(FIRST_SECONDS)
        self.assertEqual(1, self.copies_made())
        self.push_manifest(IMAGE, V2)
        self.clock.advance(INTERVAL_SECONDS - 1)
        self.assertEqual(1, self.copies_made())
        self.clock.advance(1)
        self.assertEqual(2, self.copies_made())
        self.clock.pump([60.0] * 100)
        self.assertEqual(2, self.copies_made())
        self.reopen()
        self.assertEqual(2, self.copies_made())

    def test_a_copy_that_fails_leaves_the_last_one(self) -> None:
        """A copy that the disk refuses does not harm the previous one, and is retried."""
        self.push_manifest(IMAGE, V1)
        self.clock.advance(FIRST_SECONDS)
        before = self.layout.copy.read_bytes()
        self.threads.failures["copy_hosted"] = sqlite3.OperationalError("database or disk is full")
        self.push_manifest(IMAGE, V2)
        self.clock.advance(INTERVAL_SECONDS)
        self.assertEqual(before, self.layout.copy.read_bytes())
        self.clock.advance(INTERVAL_SECONDS)
        self.assertNotEqual(before, self.layout.copy.read_bytes())

    def test_only_the_owner_may_look(self) -> None:
        """A copy is readable by the daemon's user only, as the index is."""
        self.push_manifest(IMAGE, V1)
        self.reopen()
        self.assertEqual(0, self.layout.copy.stat().st_mode & 0o077)
