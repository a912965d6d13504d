"""Tests of mirrord/mirrored/fetch_policy.py."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.fetch_policy import MAX_REPOSITORIES, BlobFetchPolicy
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, Unavailable
from mirrord.oci.names import RepositoryKey, RepositoryName


def key(number: int) -> RepositoryKey:
    return RepositoryKey("docker.io", RepositoryName(f"library/{number}"))


class RepositoryTests(SynchronousTestCase):
    def test_bound(self) -> None:
        """Clients cannot add repositories to a download without end; a known one may be added again."""
        policy = BlobFetchPolicy(
            digest=Digest.of(b""), repositories=[key(0)], upstreams={}, clock=Clock(), random=lambda: 0.0
        )
        policy.refusals[key(1)] = BlobUnknown("refused")
        for number in range(2, MAX_REPOSITORIES):
            policy.add(key(number))

        self.assertRaises(Unavailable, policy.add, key(MAX_REPOSITORIES))

        policy.add(key(5))
        self.assertEqual(MAX_REPOSITORIES - 1, len(policy.repositories))
