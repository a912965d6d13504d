"""Tests of mirrord/api/referrers.py."""

from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown
from tests.unit.api.cases import APICase

DIGEST = Digest.of(b"subject")
PATH = f"/v2/library/x/referrers/{DIGEST}"


class ReferrersTests(APICase):
    def test_index(self) -> None:
        """The response is the index, with exactly the Content-Type that clients compare."""
        got = self.get(PATH)

        self.assertEqual((200, self.repositories.referrers), (got.status, got.body))
        self.assertEqual("application/vnd.oci.image.index.v1+json", got.headers["content-type"])
        self.assertNotIn("oci-filters-applied", got.headers)

    def test_filtered(self) -> None:
        """OCI-Filters-Applied is sent if the upstream applied the artifact type."""
        self.repositories.is_filtered = True

        got = self.get(f"{PATH}?artifactType=application/x")

        self.assertEqual("artifactType", got.headers["oci-filters-applied"])
        self.assertEqual((DIGEST, "application/x"), self.repositories.requests[0][2:])

    def test_no_such_api(self) -> None:
        """If the upstream has no referrers API, the error lets clients look for the fallback tag."""
        self.repositories.error = ManifestUnknown("no referrers here")

        self.assert_error(self.get(PATH), 404, "MANIFEST_UNKNOWN")

    def test_bad_digest(self) -> None:
        """An invalid digest is an error."""
        self.assert_error(self.get("/v2/library/x/referrers/sha256:xyz"), 400, "DIGEST_INVALID")
