"""Tests of mirrord/store/upload_counts.py, and of the sessions that it counts."""

from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError, TooManyRequests, Unavailable
from mirrord.oci.names import RepositoryName
from mirrord.store.upload_counts import CROWDED_SECONDS, SessionName, UploadLimits
from mirrord.store.uploads import Upload
from tests.unit.store.cases import APP, WEB, PushTestCase

LIMITS = UploadLimits(of_client=3, in_repository=4, in_all=5)


class UploadCountsTests(PushTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store.uploads.counts.limits = LIMITS

    def begin(self, client: str = "ann", repository: RepositoryName = APP) -> Upload:
        upload = self.result(self.store.uploads.begin(repository, client))
        upload.release()
        return upload

    def rejection(self, client: str, repository: RepositoryName = APP) -> RegistryError:
        error = self.failure(self.store.uploads.begin(repository, client), RegistryError)
        assert isinstance(error, RegistryError)
        return error

    def test_client(self) -> None:
        """A client cannot have more sessions than allowed, in all repositories together: 429."""
        for repository in (APP, APP, WEB):
            self.begin("ann", repository)

        error = self.rejection("ann", WEB)

        self.assertIsInstance(error, TooManyRequests)
        self.assertIn("this client has 3 unfinished uploads", error.message)
        self.assertEqual(60.0, error.retry_after_seconds)
        self.begin("ben")

    def test_repository(self) -> None:
        """Nor can a repository, whoever began them."""
        for client in ("ann", "ann", "ben", "ben"):
            self.begin(client)

        self.assertIn("this repository has 4 unfinished uploads", self.rejection("cid").message)
        self.begin("cid", WEB)

    def test_all(self) -> None:
        """The limit for all sessions is not the doing of one client: 503."""
        for number in range(5):
            self.begin(f"client {number}", RepositoryName(f"team/{number}"))

        error = self.rejection("ann")

        self.assertIsInstance(error, Unavailable)
        self.assertIn("5 unfinished uploads", error.message)

    def test_over(self) -> None:
        """A session that is committed, discarded, removed or lost is not counted any more."""
        kept = [self.begin() for _ in range(3)]
        committed, discarded = (
            self.result(self.store.uploads.find(APP, upload.session)) for upload in kept[:2]
        )
        assert committed is not None
        assert discarded is not None
        self.result(committed.commit(Digest.of(b"")))
        committed.release()
        self.result(discarded.discard())
        self.result(self.store.uploads.remove([kept[2].session]))
        lost, *_ = [self.begin() for _ in range(3)]
        lost.path.unlink()
        self.assertIsNone(self.result(self.store.uploads.find(APP, lost.session)))

        self.begin()

        self.rejection("ann")

    def test_restart(self) -> None:
        """Sessions are counted after a restart; those of earlier versions only in their repository."""
        names = [self.begin().session for _ in range(2)]
        old = self.begin().path
        old.rename(old.with_name(old.name.rpartition("-")[0]))
        self.reopen()
        self.store.uploads.counts.limits = LIMITS

        self.assertIsNotNone(self.result(self.store.uploads.find(APP, old.name.rpartition("-")[0])))
        self.begin()
        self.assertIn("this client", self.rejection("ann").message)
        self.assertIn("this repository", self.rejection("ben").message)
        self.assertEqual(2, len(set(names)))

    def test_crowded(self) -> None:
        """Where more than half of a limit is used, an idle session expires after an hour, elsewhere later."""
        self.store.uploads.counts.limits = UploadLimits(of_client=3)
        crowd = [self.begin("ann") for _ in range(2)]
        self.begin("ben", WEB)
        self.pass_time(CROWDED_SECONDS)
        self.begin("ann").release()

        expired = self.store.uploads.expired(7 * 86_400)

        self.assertEqual({upload.session for upload in crowd}, set(expired))

    def test_names(self) -> None:
        """A name is parsed as it was made; anything else is no name."""
        name = SessionName.of("0" * 32, APP, "ann")

        self.assertEqual(name, SessionName.parse(str(name)))
        self.assertEqual((True, False), (name.is_in(APP), name.is_in(WEB)))
        for text in ("", str(name)[:-1], f"{name}-0", str(name).upper(), "../" + str(name)[3:]):
            self.assertIsNone(SessionName.parse(text), text)
