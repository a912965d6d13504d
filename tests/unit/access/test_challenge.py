"""What a client is told that has to say who it is."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.challenge import bearer
from mirrord.access.scopes import read_scopes
from mirrord.upstream.challenge import Challenge


class ChallengeTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A challenge says where, for what, and what was wrong, as our own client of registries reads it."""
        scopes = read_scopes(["repository:team/a:pull,push"])
        (read,) = Challenge.parse_all([bearer("https://mirror.lan:5000", scopes, "insufficient_scope")])
        self.assertEqual(read.scheme.lower(), "bearer")
        self.assertEqual(
            dict(read.parameters),
            {
                "realm": "https://mirror.lan:5000/v2/token",
                "service": "mirrord",
                "scope": "repository:team/a:pull,push",
                "error": "insufficient_scope",
            },
        )

    def test_of_a_ping(self) -> None:
        """Where nothing is asked for there is no scope."""
        self.assertEqual(bearer("http://m"), 'Bearer realm="http://m/v2/token",service="mirrord"')

    def test_quotes(self) -> None:
        """A host cannot end the quotes that it stands in."""
        self.assertEqual(
            bearer('http://m",x="\\\r\n'), 'Bearer realm="http://m,x=/v2/token",service="mirrord"'
        )
