"""A mount costs no bytes, and tells nobody what they may not read."""

from twisted.internet.defer import Deferred

from mirrord.oci.digest import Digest
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName
from tests.fakes.pulling import FakePulling
from tests.unit.hosted.cases import APP, OTHER, PushCase

DIGEST = Digest.of(b"blob")
THERE = RepositoryKey(HOSTED, OTHER)
HUB = RepositoryKey("docker.io", RepositoryName("library/x"))


class MountTests(PushCase):
    def setUp(self) -> None:
        super().setUp()
        self.readable = {THERE, HUB}
        self.pulling = FakePulling(hosting=self.hosting)

    def mount(self, origin: RepositoryKey | None = None) -> bool:
        repository = None if origin is None else self.pulling.router().open(origin)
        mounting = self.services.mounter.mount(APP, DIGEST, repository, self.readable.__contains__)
        return self.successResultOf(Deferred.fromCoroutine(mounting))

    def test_hosted(self) -> None:
        """A blob that another repository holds is mounted, and is then here too."""
        self.hold(b"blob", OTHER)

        self.assertTrue(self.mount(THERE))
        self.assertIsNotNone(self.index.link(APP, DIGEST))

    def test_mirrored(self) -> None:
        """A blob that is mirrored and held is mounted; one that is only known of is not."""
        self.pulling.add_blob(b"blob")
        self.assertFalse(self.mount(HUB))
        self.index.blobs.committed[DIGEST] = b"blob"

        self.assertTrue(self.mount(HUB))

    def test_anonymous(self) -> None:
        """Without an origin the blob is found wherever the caller may read it."""
        self.hold(b"blob", RepositoryName("team/hidden"))
        self.assertFalse(self.mount())
        self.hold(b"blob", OTHER)

        self.assertTrue(self.mount())

    def test_forbidden(self) -> None:
        """What the caller may not read is not even looked up."""
        self.hold(b"blob", OTHER)
        self.readable.clear()

        self.assertFalse(self.mount(THERE))
        self.assertEqual([], self.index.looked_up)
        self.assertFalse(self.mount())

    def test_own(self) -> None:
        """What the repository has itself needs no other."""
        self.hold(b"blob")
        self.readable.clear()

        self.assertTrue(self.mount())
