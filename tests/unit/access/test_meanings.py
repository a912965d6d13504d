"""Which repositories a name in a token's scope can stand for."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.meanings import Meanings
from mirrord.oci.names import Repository
from mirrord.pull.sources import Origin, Sources


class MeaningsTests(SynchronousTestCase):
    def meanings(self, name: str) -> set[str]:
        sources = Sources.of([Origin("docker.io", "dockerhub"), Origin("quay.io", "quay")])
        return {str(each) for each in Meanings(("team/*",), sources).meanings(Repository(name))}

    def test_plain(self) -> None:
        """A name can be any upstream's, by ns; a single one at Docker Hub is an official image's too."""
        self.assertEqual(self.meanings("a/b"), {"docker.io/a/b", "quay.io/a/b"})
        self.assertEqual(self.meanings("a"), {"docker.io/a", "docker.io/library/a", "quay.io/a"})

    def test_prefixed(self) -> None:
        """A name that begins with a prefix can be one without it at that upstream."""
        self.assertIn("quay.io/a/b", self.meanings("quay/a/b"))
        self.assertIn("docker.io/library/a", self.meanings("dockerhub/a"))

    def test_hosted(self) -> None:
        """A name of a hosted pattern can be hosted, and still an upstream's by ns."""
        self.assertEqual(self.meanings("team/a"), {"hosted/team/a", "docker.io/team/a", "quay.io/team/a"})
