import errno
import hashlib
import os
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, UploadBusy
from mirrord.store import uploads
from mirrord.store.threads import DiskTimeout
from mirrord.store.uploads import Upload
from tests.fakes.stores import content_path
from tests.unit.store.cases import APP, WEB, PushTestCase

FULL = OSError(errno.ENOSPC, "full")
BODY = b"0123456789" * 1000


class UploadTests(PushTestCase):
    def begin(self, body: bytes = BODY) -> Upload:
        upload = self.result(self.store.uploads.begin(APP, "ann"))
        self.result(upload.write(body))
        return upload

    def find(self, session: str) -> Upload:
        upload = self.result(self.store.uploads.find(APP, session))
        assert upload is not None
        return upload

    def files(self) -> list[str]:
        return [path.name for path in self.layout.uploads.iterdir()]

    def open_files(self) -> set[str]:
        """Return the names of the sessions whose files this process has open."""
        folder = self.layout.uploads.resolve()
        links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        return {Path(link).name for link in links if Path(link).parent == folder}

    def test_a_session_goes_from_request_to_request(self) -> None:
        """The next request continues where the last one stopped, and the blob has all bytes."""
        upload = self.begin()
        upload.release()
        upload = self.find(upload.session)
        self.assertEqual(len(BODY), upload.offset)
        self.result(upload.write(BODY))
        self.result(upload.commit(Digest.of(BODY * 2)))
        self.assertEqual(BODY * 2, self.read_blob(Digest.of(BODY * 2)))
        self.assertEqual([], self.files())
        self.assertIsNone(self.result(self.store.uploads.find(APP, upload.session)))

    def test_it_belongs_to_its_repository(self) -> None:
        """A session is found in no other repository, nor under an invalid name."""
        upload = self.begin()
        upload.release()
        for session in (upload.session, "../lock", "x", "0" * 32 + upload.session[32:]):
            self.assertIsNone(self.result(self.store.uploads.find(WEB, session)))
        self.assertIsNone(self.result(self.store.uploads.find(APP, "0" * 32 + upload.session[32:])))
        self.find(upload.session).release()

    def test_it_belongs_to_one_request(self) -> None:
        """While a request uses a session, another one gets UploadBusy."""
        upload = self.begin()
        self.failure(self.store.uploads.find(APP, upload.session), UploadBusy)

    def test_it_survives_a_kill(self) -> None:
        """After a restart the offset is the length of the file, whose bytes are hashed again."""
        session = self.begin().session
        self.kill()
        upload = self.find(session)
        self.assertEqual(len(BODY), upload.offset)
        self.result(upload.write(b"end"))
        self.result(upload.commit(Digest.of(BODY + b"end")))
        self.assertEqual(BODY + b"end", self.read_blob(Digest.of(BODY + b"end")))

    def test_the_wrong_digest(self) -> None:
        """Bytes that do not match the digest are not committed, and the session stays."""
        upload = self.begin()
        self.failure(upload.commit(Digest.of(b"other")), DigestInvalid)
        self.assertIsNone(self.store.blobs.size_of(Digest.of(b"other")))
        self.result(upload.write(b"end"))
        self.result(upload.commit(Digest.of(BODY + b"end")))
        self.assertTrue(self.has(Digest.of(BODY + b"end")))

    def test_any_algorithm(self) -> None:
        """The algorithm is that of the final digest."""
        digest = Digest("sha512", hashlib.sha512(BODY).hexdigest())
        self.result(self.begin().commit(digest))
        self.assertEqual(BODY, self.read_blob(digest))

    def test_a_write_that_the_disk_refuses(self) -> None:
        """The offset is unchanged, and the same bytes are accepted later."""
        upload = self.begin()
        self.threads.failures["append"] = FULL
        self.failure(upload.write(b"end"), OSError)
        self.assertEqual(len(BODY), upload.offset)
        self.result(upload.write(b"end"))
        self.result(upload.commit(Digest.of(BODY + b"end")))

    def test_a_commit_that_the_disk_refuses(self) -> None:
        """ENOSPC at any step leaves the session, and nothing that is served; later it can be committed."""
        upload = self.begin()
        for step in ("commit", "_run"):
            self.threads.failures[step] = FULL
            self.failure(upload.commit(Digest.of(BODY)), OSError)
            self.assertEqual((False, None), (self.has(Digest.of(BODY)), self.read_blob(Digest.of(BODY))))
            self.assertEqual([upload.session], self.files())
        upload.release()
        self.result(self.find(upload.session).commit(Digest.of(BODY)))
        self.assertEqual(BODY, self.read_blob(Digest.of(BODY)))

    def test_an_fsync_that_fails_is_final(self) -> None:
        """After a failed fsync the session is over."""
        upload = self.begin()
        self.threads.failures["commit"] = OSError(errno.EIO, "fsync failed")
        self.failure(upload.commit(Digest.of(BODY)), OSError)
        self.assertIsNone(self.result(self.store.uploads.find(APP, upload.session)))
        self.assertEqual([], self.files())

    def test_a_blob_that_is_there_already(self) -> None:
        """A second push of a blob makes the same calls as the first, so that its timing reveals nothing."""
        before = len(self.threads.called)
        self.push_blob(BODY)
        path = content_path(self.layout, ContentKind.BLOB, Digest.of(BODY))
        first, inode = self.threads.called[before:], path.stat().st_ino
        self.push_blob(BODY, WEB)
        self.assertEqual(first, self.threads.called[before + len(first) :])
        self.assertEqual([APP, WEB], list(self.store.hosted.repositories_with(Digest.of(BODY))))
        self.assertNotEqual(inode, path.stat().st_ino)
        self.assertEqual([], self.files())

    def test_a_blob_whose_file_is_short(self) -> None:
        """A push repairs a blob whose file is too short."""
        self.push_blob(BODY)
        content_path(self.layout, ContentKind.BLOB, Digest.of(BODY)).write_bytes(BODY[:-1])
        self.push_blob(BODY)
        self.assertEqual(BODY, content_path(self.layout, ContentKind.BLOB, Digest.of(BODY)).read_bytes())

    def test_two_at_once_of_one_blob(self) -> None:
        """Two sessions can commit the same blob concurrently."""
        first, second = self.begin(), self.begin()
        self.threads.hold()
        commits = [Deferred.fromCoroutine(each.commit(Digest.of(BODY))) for each in (first, second)]
        for _ in range(6):
            self.threads.release()
        for each in commits:
            self.successResultOf(each)
        self.assertEqual(BODY, self.read_blob(Digest.of(BODY)))
        self.assertEqual([], self.files())

    def test_a_cancelled_commit(self) -> None:
        """A commit completes although its caller is cancelled."""
        upload = self.begin()
        self.threads.hold()
        committing = Deferred.fromCoroutine(upload.commit(Digest.of(BODY)))
        committing.cancel()
        self.failureResultOf(committing, CancelledError)
        upload.release()
        for _ in range(4):
            self.threads.release()
        self.assertTrue(self.has(Digest.of(BODY)))
        self.assertEqual([], self.files())

    def test_a_cancelled_write(self) -> None:
        """A write whose caller is cancelled is in the offset of the next request."""
        upload = self.begin()
        self.threads.hold()
        writing = Deferred.fromCoroutine(upload.write(b"end"))
        writing.cancel()
        self.failureResultOf(writing, CancelledError)
        upload.release()
        self.threads.release()
        self.assertEqual(len(BODY) + 3, self.find(upload.session).offset)

    def test_discarding(self) -> None:
        """A discarded session leaves nothing."""
        upload = self.begin()
        self.result(upload.discard())
        self.assertEqual([], self.files())
        self.assertIsNone(self.result(self.store.uploads.find(APP, upload.session)))

    def test_many_cost_no_descriptors(self) -> None:
        """Idle sessions have no open file; those whose running hash was dropped are hashed again."""
        sessions = []
        for _ in range(uploads.MAX_HASHES + 20):
            upload = self.begin(b"x")
            upload.release()
            sessions.append(upload.session)
        self.assertEqual(uploads.MAX_HASHES, self.store.uploads.total_hashes)
        self.assertTrue(upload.is_closed)
        for session in sessions:
            self.result(self.find(session).commit(Digest.of(b"x")))

    def test_the_files_used_last_stay_open(self) -> None:
        """The next request of a session that was used lately opens no file; other files are closed."""
        sessions = []
        for _ in range(uploads.MAX_OPEN + 2):
            upload = self.begin(b"x")
            upload.release()
            sessions.append(upload.session)
        self.assertEqual(set(sessions[2:]), self.open_files())

        self.threads.called.clear()
        self.find(sessions[-1]).release()
        self.assertNotIn("open", self.threads.called)
        self.result(self.find(sessions[0]).commit(Digest.of(b"x")))
        self.result(self.find(sessions[-2]).discard())
        self.result(self.store.uploads.remove(sessions))
        self.assertEqual(set(), self.open_files())

    def test_a_file_that_was_deleted(self) -> None:
        """A session whose file was deleted behind our back is over, whether that is still open or not."""
        for is_open in (True, False):
            upload = self.begin()
            upload.release()
            if not is_open:
                self.store.uploads.release_all()
            upload.path.unlink()
            self.assertIsNone(self.result(self.store.uploads.find(APP, upload.session)))
        self.assertEqual(set(), self.open_files())

    def test_the_disk_is_used_in_threads(self) -> None:
        """Creating, opening, stamping and closing the file of a session happens in threads."""
        self.threads.hold()
        beginning = Deferred.fromCoroutine(self.store.uploads.begin(APP, "ann"))
        self.assertNoResult(beginning)
        self.assertEqual([], list(self.layout.uploads.iterdir()))
        self.threads.release()
        upload = self.successResultOf(beginning)

        upload.release()
        self.store.uploads.release_all()
        self.threads.hold()
        finding = Deferred.fromCoroutine(self.store.uploads.find(APP, upload.session))
        self.assertNoResult(finding)
        self.failure(self.store.uploads.find(APP, upload.session), UploadBusy)
        removing = Deferred.fromCoroutine(self.store.uploads.remove([upload.session]))
        self.threads.release()
        self.assertEqual(0, self.successResultOf(removing))
        found = self.successResultOf(finding)
        assert found is not None
        found.release()
        self.assertEqual(0, self.store.uploads.offset(APP, upload.session))

    def test_a_client_that_leaves_early(self) -> None:
        """A session whose client has disconnected before its file was created, or in time, leaves none."""
        for give_up in (Deferred.cancel, lambda _: self.threads.expire()):
            self.threads.hold()
            beginning = Deferred.fromCoroutine(self.store.uploads.begin(APP, "ann"))
            give_up(beginning)
            self.failureResultOf(beginning)
            self.threads.release()
            self.assertEqual([], list(self.layout.uploads.iterdir()))
            self.assertEqual(0, self.store.uploads.total_entries)

    def test_a_commit_that_hangs(self) -> None:
        """A commit that does not return in time fails, and its session is over; nothing is linked later."""
        upload = self.begin(b"x")
        self.threads.hold()
        committing = Deferred.fromCoroutine(upload.commit(Digest.of(b"x")))
        self.threads.expire()
        self.threads.expire()
        self.failureResultOf(committing, DiskTimeout)
        upload.release()
        self.threads.release()
        self.assertEqual([], list(self.layout.uploads.iterdir()))
        self.assertEqual((0, False), (self.store.uploads.total_entries, self.has(Digest.of(b"x"))))

    def test_expired_sessions(self) -> None:
        """A session that was idle for long expires; one in use does not."""
        for kept in (False, True):
            upload = self.begin()
            if not kept:
                upload.release()
            self.pass_time(100)
        old = self.store.uploads.expired(150)
        self.assertEqual(1, len(old))
        self.assertGreater(self.result(self.store.uploads.remove(old)), 0)
        self.assertEqual([upload.session], self.files())

    def test_a_clock_that_is_set(self) -> None:
        """Jumps of the wall clock do not expire a session; service time does."""
        self.begin().release()
        self.wall.advance(1e9)
        self.clock.advance(149)
        self.assertEqual([], self.store.uploads.expired(150))
        self.reopen()
        self.assertEqual([], self.store.uploads.expired(150))
        self.clock.advance(1)
        self.assertEqual(self.files(), self.store.uploads.expired(150))

    def test_a_writer_that_was_killed(self) -> None:
        """The idle time of a session that was in use at kill -9 counts from the next start."""
        upload = self.begin()
        os.utime(upload.path, (1e9, 1e9))
        self.kill()
        self.clock.advance(149)
        self.assertEqual([], self.store.uploads.expired(150))
        self.reopen()
        self.clock.advance(1)
        self.assertEqual([upload.session], self.store.uploads.expired(150))
