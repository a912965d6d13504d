"""Tests of mirrord/hosted/mounts.py."""

from typing import Any

import attrs

from mirrord.hosted.repository import HostedRepository
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName
from tests.unit.hosted.cases import APP, OTHER, CountingLinks, HostedCase

DIGEST = Digest.of(b"blob")
HOSTED_OTHER = RepositoryKey(HOSTED, OTHER)
HUB = RepositoryKey("docker.io", RepositoryName("library/x"))


class MounterTests(HostedCase):
    def setUp(self) -> None:
        super().setUp()
        self.readable = {HOSTED_OTHER, HUB}
        self.checked: list[RepositoryKey] = []

    def may_read(self, key: RepositoryKey) -> bool:
        self.checked.append(key)
        return key in self.readable

    def mount(self, origin: RepositoryKey | None = None) -> bool:
        repository = None if origin is None else self.repositories.open(origin)
        return self.result(self.services.mounter.mount(APP, DIGEST, repository, self.may_read))

    def test_hosted(self) -> None:
        """A blob of another hosted repository is linked, and can be read here."""
        self.push_blob(b"blob", OTHER)

        self.assertTrue(self.mount(HOSTED_OTHER))
        self.assertIsNotNone(self.links.link(APP, DIGEST))

    def test_mirrored(self) -> None:
        """A blob of a mirrored repository is linked if it is cached."""
        self.store.link(HUB, Descriptor(OCTET_STREAM, DIGEST, 4))
        self.assertFalse(self.mount(HUB))
        self.store.add_blob(b"blob")

        self.assertTrue(self.mount(HUB))
        self.assertEqual([], self.repositories.hub.requests)

    def test_anonymous(self) -> None:
        """Without an origin, the blob is found in any repository that the client may read."""
        self.push_blob(b"blob", RepositoryName("team/hidden"))
        self.assertFalse(self.mount())
        self.push_blob(b"blob", OTHER)

        self.assertTrue(self.mount())

    def test_forbidden(self) -> None:
        """A blob is not looked up in a repository that the client may not read."""
        self.push_blob(b"blob", OTHER)
        self.readable.clear()
        links: Any = CountingLinks(self.links)
        origin = HostedRepository(HOSTED_OTHER, attrs.evolve(self.services, links=links))

        mounter = self.services.mounter
        self.assertFalse(self.result(mounter.mount(APP, DIGEST, origin, self.may_read)))
        self.assertEqual((0, [HOSTED_OTHER]), (links.look_ups, self.checked))
        self.assertFalse(self.mount())
        self.assertIsNone(self.links.link(APP, DIGEST))

    def test_own(self) -> None:
        """A blob that the repository has itself needs no other repository."""
        self.push_blob(b"blob")
        self.readable.clear()

        self.assertTrue(self.mount())
        self.assertEqual([], self.checked)
