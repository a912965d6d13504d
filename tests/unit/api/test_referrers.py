"""Referrers are passed on as the upstream says."""

from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown
from tests.unit.api.scene import SceneCase

DIGEST = Digest.of(b"subject")
PATH = f"/v2/library/x/referrers/{DIGEST}"


class ReferrersTests(SceneCase):
    def test_index(self) -> None:
        """The answer is the index, with exactly the Content-Type that clients compare."""
        got = self.get(PATH)

        self.assertEqual((200, self.pulling.index), (got.status, got.body))
        self.assertEqual("application/vnd.oci.image.index.v1+json", got.headers["content-type"])
        self.assertNotIn("oci-filters-applied", got.headers)

    def test_filtered(self) -> None:
        """Where the upstream applied the artifact type, that is said."""
        self.pulling.is_filtered = True

        got = self.get(f"{PATH}?artifactType=application/x")

        self.assertEqual("artifactType", got.headers["oci-filters-applied"])
        self.assertEqual((DIGEST, "application/x"), self.pulling.asked[0][2:])

    def test_no_such_api(self) -> None:
        """Where the upstream has no such API, the code lets clients look for the fallback tag."""
        self.pulling.error = ManifestUnknown("no referrers here")

        self.assert_error(self.get(PATH), 404, "MANIFEST_UNKNOWN")

    def test_bad_digest(self) -> None:
        """What is no digest has no referrers."""
        self.assert_error(self.get("/v2/library/x/referrers/sha256:xyz"), 400, "DIGEST_INVALID")
