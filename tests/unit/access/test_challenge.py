"""The challenge of a response that requires authentication."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.challenge import bearer
from mirrord.access.scopes import read_scopes
from mirrord.upstream.challenge import Challenge


class ChallengeTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A challenge contains realm, scope and error, as our own registry client parses them."""
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
        """A challenge for no repository contains no scope."""
        self.assertEqual(bearer("http://m"), 'Bearer realm="http://m/v2/token",service="mirrord"')

    def test_quotes(self) -> None:
        """A Host header cannot end the quoted string."""
        self.assertEqual(
            bearer('http://m",x="\\\r\n'), 'Bearer realm="http://m,x=/v2/token",service="mirrord"'
        )
