import errno
import os
import re
from collections.abc import Iterable
from itertools import islice

from twisted.internet.defer import Deferred

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store.threads import DiskTimeout
from tests.unit.store.cases import UBUNTU, StoreTestCase, manifest


class EvictionTests(StoreTestCase):
    def evict(self, entries: Iterable[Entry]) -> list[Entry]:
        return self.result(self.store.eviction.evict(list(entries)))

    def entries(self) -> list[Entry]:
        self.result(self.store.eviction.flush())
        return list(self.store.eviction.entries())

    def leave_partial(self, body: bytes) -> Digest:
        digest = Digest.of(body)
        partial = self.result(self.store.blobs.create_partial(digest, is_kept=True))
        self.result(partial.write(body[:-1]))
        self.result(partial.park())
        return digest

    def test_entries_come_by_last_use(self) -> None:
        """The least recently used entry comes first, whatever its kind."""
        digests = []
        for number in range(3):
            digests.append(self.add_blob(b"%d" % number))
            self.clock.advance(10)
            self.wall.advance(10)
        partial = self.leave_partial(b"left")
        self.clock.advance(10)
        self.wall.advance(10)
        self.add_manifest(UBUNTU, manifest())
        self.read_blob(digests[0])
        self.clock.advance(5)
        names = [(entry.kind, entry.name, entry.idle_seconds) for entry in self.entries()]
        expected = [
            (ContentKind.BLOB, str(digests[1]), 35.0),
            (ContentKind.BLOB, str(digests[2]), 25.0),
            (ContentKind.PARTIAL, self.layout.partial(partial).name, 15.0),
        ]
        self.assertEqual(expected, names[:3])
        last = {(ContentKind.BLOB, str(digests[0]), 5.0), (ContentKind.MANIFEST, str(manifest().digest), 5.0)}
        self.assertEqual(last, set(names[3:]))

    def test_a_link_used_is_its_content_used(self) -> None:
        """Shared content is as recent as the last use of any link to it."""
        shared = self.add_blob(b"shared")
        self.store.index.add_links(UBUNTU, manifest().references())
        self.add_manifest(UBUNTU, manifest())
        self.clock.advance(100)
        self.store.index.link(UBUNTU, manifest().digest)
        idle = {entry.name: entry.idle_seconds for entry in self.entries()}
        self.assertEqual({str(shared): 100.0, str(manifest().digest): 0.0}, idle)

    def test_pages_are_read_as_far_as_needed(self) -> None:
        """More entries than a page has are all listed once, while others are evicted."""
        for number in range(600):
            self.add_blob(b"%d" % number)
        self.result(self.store.eviction.flush())
        names = []
        for number, entry in enumerate(self.store.eviction.entries()):
            names.append(entry.name)
            if number % 3 == 0:
                self.evict([entry])
        self.assertEqual((600, 600), (len(names), len(set(names))))
        self.assertEqual(400, self.store.eviction.total_entries)

    def test_recently_used_content_is_skipped(self) -> None:
        """When uses cannot be written, recently used content is not listed as old."""
        old, used = self.add_blob(b"old"), self.add_blob(b"used")
        self.result(self.store.eviction.flush())
        self.clock.advance(10)
        self.read_blob(used)
        self.threads.failures["_run"] = OSError(errno.ENOSPC, "full")
        self.failure(self.store.eviction.flush(), OSError)
        self.assertEqual([str(old)], [entry.name for entry in self.store.eviction.entries()])

    def test_content_used_after_its_page_was_read_stays(self) -> None:
        """Entries that were used since their page was read stay, whether the use is written or not."""
        digests = [self.add_blob(b"%d" % number) for number in range(3)]
        self.result(self.store.eviction.flush())
        self.clock.advance(100)
        entries = self.store.eviction.entries()
        first = next(entries)
        used = [digest for digest in digests if str(digest) != first.name]
        self.read_blob(used[0])
        self.result(self.store.eviction.flush())
        planned = [first, *islice(entries, 2)]
        self.read_blob(used[1])
        self.assertEqual([first], self.evict(planned))
        self.assertEqual(2, self.store.eviction.total_entries)

    def test_the_evicted_is_absent_at_once(self) -> None:
        """Evicted content is gone from the totals, from memory and from the disk, also after a restart."""
        digest = self.add_blob(b"x")
        self.assertEqual(b"x", self.read_blob(digest))
        self.add_manifest(UBUNTU, manifest())
        self.leave_partial(b"left")
        self.assertEqual(3, len(self.evict(self.entries())))
        self.assertEqual((0, 0), (self.store.eviction.total_entries, self.store.eviction.total_bytes))
        self.assertEqual(0, self.store.contents.bodies.total_bytes)
        self.assertIsNone(self.read_blob(digest))
        self.assertIsNone(self.result(self.store.manifests.read(manifest().digest)))
        kept = re.compile(r"lock|reserve|index\.sqlite|hosted\.(journal|snapshot)")
        files = [path for path in self.root.rglob("*") if path.is_file() and not kept.match(path.name)]
        self.assertEqual([], [path for path in files if path.parent != self.layout.spare])
        self.reopen()
        self.reconcile()
        self.assertEqual(0, self.store.eviction.total_entries)

    def test_evicting_twice(self) -> None:
        """Evicting an entry that is gone already does not change the totals."""
        self.add_blob(b"x")
        (entry,) = self.entries()
        self.assertEqual([entry], self.evict([entry]))
        self.assertEqual([], self.evict([entry]))

    def test_a_file_that_cannot_be_deleted(self) -> None:
        """A file that the disk refuses to delete does not keep the others, and all are absent."""
        digests = [self.add_blob(b"x"), self.add_blob(b"y")]
        entries = self.entries()
        paths = [self.layout.mirrored.path(ContentKind.BLOB, Digest.parse(entry.name)) for entry in entries]
        paths[0].unlink()
        paths[0].mkdir()
        self.failure(self.store.eviction.evict(entries), OSError)
        self.assertFalse(paths[1].exists())
        self.assertEqual(0, self.store.eviction.total_entries)
        paths[0].rmdir()
        self.assertEqual([None, None], [self.store.blobs.size_of(digest) for digest in digests])

    def test_files_are_deleted_in_a_thread(self) -> None:
        """Content is absent while a thread deletes its file, however long that takes, and is not adopted."""
        digest = self.add_blob(b"x")
        path = self.layout.mirrored.path(ContentKind.BLOB, digest)
        self.threads.hold()
        evicting = Deferred.fromCoroutine(self.store.eviction.evict(self.least_recent()))
        self.threads.expire()
        self.failureResultOf(evicting, DiskTimeout)
        self.assertTrue(path.exists())
        self.assertIsNone(self.store.blobs.size_of(digest))
        self.threads.release()
        self.assertFalse(path.exists())
        self.add_blob(b"x")
        self.assertEqual(b"x", self.read_blob(digest))

    def least_recent(self) -> list[Entry]:
        self.threads.release()
        entries = self.entries()
        self.threads.hold()
        return entries

    def test_a_new_file_of_the_same_name_survives(self) -> None:
        """A blob that is committed again while its old file is being deleted is kept."""
        digest = self.add_blob(b"x")
        entries = self.entries()
        self.threads.hold()
        evicting = Deferred.fromCoroutine(self.store.eviction.evict(entries))
        self.threads.is_held = False
        self.assertIsNone(self.read_blob(digest))
        partial = self.result(self.store.blobs.create_partial(digest, is_kept=True))
        self.result(partial.write(b"x"))
        committing = Deferred.fromCoroutine(partial.commit())
        self.assertNoResult(committing)
        self.threads.release()
        self.successResultOf(committing)
        self.successResultOf(evicting)
        self.assertEqual(b"x", self.read_blob(digest))
        self.reopen()
        self.assertEqual(b"x", self.read_blob(digest))

    def test_a_resumed_partial_is_not_evicted(self) -> None:
        """A parked partial is evicted, unless it was resumed."""
        digest = self.leave_partial(b"left")
        (entry,) = self.entries()
        partial = self.result(self.store.blobs.find_partial(digest))
        self.assertEqual([], self.entries())
        self.assertEqual([], self.evict([entry]))
        assert partial is not None
        self.assertTrue(self.layout.partial(digest).exists())

    def test_a_new_partial_waits_for_the_deletion(self) -> None:
        """A partial that is created while its predecessor is being deleted is not deleted with it."""
        digest = self.leave_partial(b"left")
        entries = self.entries()
        self.threads.hold("unlink_all")
        evicting = Deferred.fromCoroutine(self.store.eviction.evict(entries))
        self.assertIsNone(self.result(self.store.blobs.find_partial(digest)))
        creating = Deferred.fromCoroutine(self.store.blobs.create_partial(digest, is_kept=True))
        self.assertEqual(0, self.store.eviction.total_bytes)
        self.threads.release()
        self.assertEqual(entries, self.successResultOf(evicting))
        self.result(self.successResultOf(creating).write(b"left"))
        self.assertEqual(b"left", self.layout.partial(digest).read_bytes())

    def test_a_partial_that_is_being_opened_is_not_evicted(self) -> None:
        """A parked partial that a thread opens is neither listed as evicted nor deleted."""
        digest = self.leave_partial(b"left")
        entries = self.entries()
        self.threads.hold("open")
        finding = Deferred.fromCoroutine(self.store.blobs.find_partial(digest))
        self.assertEqual([], self.evict(entries))
        self.threads.release()
        found = self.successResultOf(finding)
        assert found is not None
        self.assertTrue(self.layout.partial(digest).exists())

    def test_age_of_parked_partials(self) -> None:
        """The age of a partial is the service time since it was parked, over all runs."""
        self.clock.advance(1000)
        self.leave_partial(b"left")
        self.clock.advance(3000)
        self.reopen()
        self.clock.advance(1000)
        (entry,) = self.entries()
        self.assertEqual(4000.0, entry.idle_seconds)

    def test_a_clock_that_is_set(self) -> None:
        """Jumps of the wall clock, now or before a start, do not change the age of a partial."""
        self.clock.advance(100)
        self.leave_partial(b"left")
        self.wall.advance(1e9)
        self.clock.advance(10)
        self.assertEqual([10.0], [entry.idle_seconds for entry in self.entries()])
        self.reopen()
        self.assertEqual([10.0], [entry.idle_seconds for entry in self.entries()])

    def test_a_writer_that_was_killed(self) -> None:
        """The age of a partial whose file has a wall clock mtime counts from the start that found it."""
        digest = self.leave_partial(b"left")
        self.clock.advance(100)
        for times in ((1e9, 1e9), (1e9, 2e9), (2.0, 3.0)):
            os.utime(self.layout.partial(digest), times)
            for idle_seconds in (0.0, 10.0, 20.0):
                self.reopen()
                self.assertEqual([idle_seconds], [entry.idle_seconds for entry in self.entries()])
                self.clock.advance(10)


class ReservationTests(StoreTestCase):
    def test_a_reservation_shrinks_as_it_is_used(self) -> None:
        """Reserved space counts until it is written, and the written bytes from then on."""
        body = b"x" * 3 * 4096
        digest = Digest.of(body)
        self.store.eviction.reserve(digest, len(body))
        partial = self.result(self.store.blobs.create_partial(digest, is_kept=True))
        for blocks in range(3):
            eviction = self.store.eviction
            self.assertEqual(
                ((3 - blocks) * 4096, blocks * 4096), (eviction.reserved_bytes, eviction.total_bytes)
            )
            self.assertEqual(blocks * 4096, eviction.busy_bytes)
            self.result(partial.write(body[:4096]))
        self.result(partial.commit())
        self.assertEqual((0, 3 * 4096), (self.store.eviction.reserved_bytes, self.store.eviction.total_bytes))

    def test_a_reservation_ends_with_its_download(self) -> None:
        """Parking, discarding or not keeping a download frees what was reserved for it."""
        digest = Digest.of(b"x" * 8192)
        for is_kept in (True, False):
            for ending in ("park", "discard"):
                self.store.eviction.reserve(digest, 8192)
                partial = self.result(self.store.blobs.create_partial(digest, is_kept=is_kept))
                self.assertEqual(8192 if is_kept else 0, self.store.eviction.reserved_bytes)
                if ending == "park":
                    self.result(partial.park())
                else:
                    self.result(partial.discard())
                self.assertEqual(0, self.store.eviction.reserved_bytes)

    def test_a_loan_shrinks_as_it_is_used_and_ends(self) -> None:
        """Lent space counts until it is written or the stream ends, and never as kept."""
        eviction, digest = self.store.eviction, Digest.of(b"x" * 8192)
        for ending in ("commit", "discard", "park"):
            eviction.lend(digest, 8192)
            partial = self.result(self.store.blobs.create_partial(digest, is_kept=False))
            self.result(partial.write(b"x" * 4096))
            self.assertEqual(
                (4096, 0, 0), (eviction.lent_bytes, eviction.reserved_bytes, eviction.total_bytes)
            )
            if ending == "park":
                self.result(partial.park())
            else:
                self.result(partial.commit() if ending == "commit" else partial.discard())
            self.assertEqual(0, eviction.lent_bytes)

    def test_a_loan_is_not_a_reservation(self) -> None:
        """A digest that is kept after all uses its reservation, not its loan."""
        eviction, digest = self.store.eviction, Digest.of(b"x" * 8192)
        eviction.lend(digest, 8192)
        eviction.reserve(digest, 4096)
        self.result(self.store.blobs.create_partial(digest, is_kept=True))
        self.assertEqual((0, 4096), (eviction.lent_bytes, eviction.reserved_bytes))

    def test_a_refused_partial_has_no_reservation(self) -> None:
        """If the disk refuses a new partial, what was reserved or lent for it is freed."""
        eviction, digest = self.store.eviction, Digest.of(b"x")
        self.layout.partials.rmdir()
        eviction.reserve(digest, 8192)
        self.failure(self.store.blobs.create_partial(digest, is_kept=True), OSError)
        self.assertEqual(0, eviction.reserved_bytes)
        self.layout.mirrored.scratch.rmdir()
        eviction.lend(digest, 8192)
        self.failure(self.store.blobs.create_partial(digest, is_kept=False), OSError)
        self.assertEqual(0, eviction.lent_bytes)

    def test_a_reservation_is_replaced(self) -> None:
        """A second reservation for the same digest replaces the first; 0 cancels it."""
        for size in (8192, 4096, 0):
            self.store.eviction.reserve(Digest.of(b"x"), size)
            self.assertEqual(size, self.store.eviction.reserved_bytes)

    def test_a_resumed_download_reserves_the_rest(self) -> None:
        """Bytes that were there before the reservation do not count against it."""
        body = b"x" * 8192
        partial = self.result(self.store.blobs.create_partial(Digest.of(body), is_kept=True))
        self.result(partial.write(body[:4096]))
        self.result(partial.park())
        found = self.result(self.store.blobs.find_partial(Digest.of(body)))
        assert found is not None
        self.store.eviction.reserve(Digest.of(body), 4096)
        self.assertEqual(4096, self.store.eviction.reserved_bytes)
        self.result(found.write(body[4096:]))
        self.assertEqual(0, self.store.eviction.reserved_bytes)
