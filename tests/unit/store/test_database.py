import errno
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName
from mirrord.store.database import COMMIT_SECONDS, FLUSH_SECONDS, Transaction, _run
from mirrord.store.history import History
from mirrord.store.hosted_facts import BlobLinked
from mirrord.store.hosted_rows import HostedTransaction
from tests.unit.store.cases import LATEST, UBUNTU, StoreTestCase, layer, manifest, observation

FULL = OSError(errno.ENOSPC, "full")


class Unreadable(sqlite3.Connection):
    """A connection that can write, and not read."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("SELECT"):
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *parameters)


class DatabaseTests(StoreTestCase):
    def batches(self) -> int:
        return self.threads.called.count("_run")

    def flush(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.store.eviction.flush())

    def test_many_writes_are_one_commit(self) -> None:
        """Rows written within a moment are committed together."""
        for number in range(100):
            self.store.index.add_links(UBUNTU, [layer(b"%d" % number)])
        self.clock.advance(1)
        self.assertEqual(1, self.batches())

    def test_a_hit_writes_nothing(self) -> None:
        """Uses reach the disk once a minute at most, however many there are."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(1)
        self.threads.called.clear()
        for _ in range(1000):
            self.store.index.link(UBUNTU, layer(b"x").digest)
            self.clock.advance(0.05)
        self.assertEqual(0, self.batches())
        self.clock.advance(20)
        self.assertEqual(1, self.batches())

    def test_uses_are_written_within_the_minute_also_while_rows_are(self) -> None:
        """A steady stream of new rows does not delay the uses of others."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(1)
        self.store.index.link(UBUNTU, layer(b"x").digest)
        for number in range(70):
            self.store.index.add_links(UBUNTU, [layer(b"%d" % number)])
            self.clock.advance(1)
        ((used,),) = self.store.database.select(
            "SELECT last_used FROM links WHERE digest = ?", (str(layer(b"x").digest),)
        )
        self.assertEqual(1.0, used)

    def test_its_own_writes_are_read_while_they_are_on_the_way(self) -> None:
        """A row is read from memory before, during and after its commit."""
        self.threads.hold()
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        for _ in range(3):
            self.assertEqual(layer(b"x"), self.store.index.link(UBUNTU, layer(b"x").digest))
            self.clock.advance(1)
        self.threads.release()
        self.assertEqual(layer(b"x"), self.store.index.link(UBUNTU, layer(b"x").digest))

    def test_a_newer_row_wins_over_the_batch_on_its_way(self) -> None:
        """A tag that changes while its old row is being committed is read and kept as the new one."""
        self.threads.hold()
        self.store.index.observe_tag(UBUNTU, LATEST, observation(manifest(note="1")))
        self.clock.advance(1)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(manifest(note="2")))
        self.threads.release()
        self.reopen()
        record = self.store.index.tag(UBUNTU, LATEST)
        assert record is not None
        self.assertEqual(observation(manifest(note="2")), record.pending)

    def test_a_newer_row_wins_over_a_refused_batch(self) -> None:
        """A tag that changed while its old row was refused is kept as the new one."""
        self.threads.hold()
        self.threads.failures["_run"] = FULL
        self.store.index.observe_tag(UBUNTU, LATEST, observation(manifest(note="1")))
        self.clock.advance(1)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(manifest(note="2")))
        self.threads.release()
        self.reopen()
        record = self.store.index.tag(UBUNTU, LATEST)
        assert record is not None
        self.assertEqual(observation(manifest(note="2")), record.pending)

    def test_a_refused_batch_is_kept_and_tried_again(self) -> None:
        """No row is lost while the disk is full for a while."""
        self.threads.failures["_run"] = FULL
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(0.5)
        self.store.index.add_links(UBUNTU, [layer(b"y")])
        self.assertEqual(layer(b"x"), self.store.index.link(UBUNTU, layer(b"x").digest))
        self.clock.pump([1.0] * 3)
        self.kill()
        for body in (b"x", b"y"):
            self.assertEqual(layer(body), self.store.index.link(UBUNTU, layer(body).digest))

    def test_it_tries_ever_more_slowly(self) -> None:
        """A disk that stays full is tried less and less often."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        for _ in range(600):
            self.threads.failures["_run"] = FULL
            self.clock.advance(1)
        self.assertLess(self.batches(), 20)
        self.threads.failures.clear()
        self.clock.pump([1.0] * 61)
        self.kill()
        self.assertIsNotNone(self.store.index.link(UBUNTU, layer(b"x").digest))

    def test_a_row_that_cannot_be_written_is_dropped(self) -> None:
        """A row that SQLite cannot store is dropped; those beside it are written, and the next ones."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        too_large = attrs.evolve(layer(b"too large"), size=2**63)
        half_a_pair = attrs.evolve(layer(b"half a pair"), media_type="\ud800")
        self.store.index.add_links(UBUNTU, [too_large, half_a_pair])
        self.store.index.add_links(UBUNTU, [layer(b"y")])
        self.successResultOf(self.flush())
        self.assertIsNone(self.store.trouble)
        self.store.index.add_links(UBUNTU, [layer(b"z")])
        self.successResultOf(self.flush())
        self.kill()
        for body in (b"x", b"y", b"z"):
            self.assertEqual(layer(body), self.store.index.link(UBUNTU, layer(body).digest))
        self.assertIsNone(self.store.index.link(UBUNTU, too_large.digest))

    def test_damage_that_a_transaction_finds(self) -> None:
        """A transaction that finds a damaged page raises OSError, and condemns the index."""

        def find_damage(_: HostedTransaction) -> None:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        self.failure(self.store.database.transact(find_damage), OSError)
        self.assertTrue(self.layout.condemned.exists())

    def test_what_is_committed_is_not_aborted(self) -> None:
        """A change that the index has is in the journal too, whatever fails after the commit."""
        journal = self.store._journal
        fact = BlobLinked("team/app", str(Digest.of(b"x")), 1, 0.0, 0.0)
        transaction = Transaction(lambda transaction: transaction.change(fact))
        with closing(sqlite3.connect(self.layout.index, isolation_level=None, factory=Unreadable)) as index:
            self.assertRaises(sqlite3.Error, _run, index, journal, 0.0, [], [transaction])
        self.assertIsNotNone(self.store.hosted.link(RepositoryName("team/app"), Digest.of(b"x")))
        (record,) = History.read(self.layout.hosted_root).after(0) or []
        self.assertEqual([fact], record.facts)

    def test_any_failure_is_trouble(self) -> None:
        """A batch that fails unexpectedly is logged, kept and retried."""
        self.threads.failures["_run"] = MemoryError("no memory")
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(0.5)
        self.assertEqual("[Errno 5] index: no memory", self.store.trouble)
        self.clock.pump([1.0] * 3)
        self.assertIsNone(self.store.trouble)
        self.kill()
        self.assertEqual(layer(b"x"), self.store.index.link(UBUNTU, layer(b"x").digest))

    def test_a_flush_is_the_durability_point(self) -> None:
        """A flush waits for its own commit, also while another one runs, and fails with it."""
        self.threads.hold()
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(1)
        self.store.index.add_links(UBUNTU, [layer(b"y")])
        flushed = self.flush()
        self.assertNoResult(flushed)
        self.threads.release()
        self.successResultOf(flushed)
        self.assertEqual(2, self.batches())
        self.threads.failures["_run"] = FULL
        self.assertEqual(errno.ENOSPC, self.failureResultOf(self.flush(), OSError).value.errno)

    def test_a_disk_that_hangs(self) -> None:
        """Callers that wait for a hung commit get an error, later ones at once; the commit still ends."""
        self.threads.hold()
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        flushing, writing = self.flush(), self.transact()
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(errno.ETIMEDOUT, self.failureResultOf(flushing, OSError).value.errno)
        self.failureResultOf(self.flush(), OSError)
        self.clock.advance(COMMIT_SECONDS)
        self.assertEqual(errno.ETIMEDOUT, self.failureResultOf(writing, OSError).value.errno)
        self.failureResultOf(self.transact(), OSError)
        self.threads.release()
        self.successResultOf(self.transact())
        self.kill()
        self.assertIsNotNone(self.store.index.link(UBUNTU, layer(b"x").digest))

    def test_closing_on_a_disk_that_hangs(self) -> None:
        """The close of a store whose commit hangs ends after a while, and leaves SQLite alone."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.threads.hold()
        closing = Deferred.fromCoroutine(self.store.close())
        self.clock.advance(COMMIT_SECONDS)
        self.successResultOf(closing)
        self.threads.release()
        self.clock.advance(1)
        self.store = self.open()
        self.assertIsNotNone(self.store.index.link(UBUNTU, layer(b"x").digest))

    def transact(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.store.database.transact(lambda _: None))

    def close_while(self, something_comes: Callable[[], object]) -> None:
        """Close, and make a change while the last batch is being committed."""
        self.threads.hold()
        closing = Deferred.fromCoroutine(self.store.close())
        self.clock.advance(60)
        something_comes()
        self.assertNoResult(closing)
        self.threads.release()
        self.successResultOf(closing)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.store = self.open()

    def test_closing_leaves_no_row_unwritten(self) -> None:
        """A row written while the last batch is being committed is on the disk after the close."""
        self.close_while(lambda: self.store.index.add_links(UBUNTU, [layer(b"x")]))
        self.assertEqual(layer(b"x"), self.store.index.link(UBUNTU, layer(b"x").digest))

    def test_closing_leaves_no_use_unwritten(self) -> None:
        """A use recorded while the last batch is being committed is on the disk after the close."""
        self.store.index.add_links(UBUNTU, [layer(b"x"), layer(b"y")])
        self.close_while(lambda: self.store.index.link(UBUNTU, layer(b"x").digest))
        self.assertEqual(1, sum(self.store.eviction.forget_unused(30)))
        self.assertIsNotNone(self.store.index.link(UBUNTU, layer(b"x").digest))

    def test_closing_gives_up_on_a_disk_that_refuses(self) -> None:
        """A disk that refuses the last batch does not prevent the close."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.threads.failures["_run"] = FULL
        self.reopen()
        self.assertIsNone(self.store.index.link(UBUNTU, layer(b"x").digest))
