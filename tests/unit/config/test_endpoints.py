"""Tests of mirrord/config/endpoints.py."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.endpoints import EndpointDescription


class EndpointTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Arguments are separated by colons without a backslash, and named where they have an `=`."""
        for text, kind, positional, named in (
            ("tcp:5000", "tcp", ("5000",), {}),
            ("tcp:5000:interface=127.0.0.1", "tcp", ("5000",), {"interface": "127.0.0.1"}),
            ("tcp6:port=0:interface=\\:\\:1", "tcp6", (), {"port": "0", "interface": "::1"}),
            ("unix:/run/a\\:b:mode=660", "unix", ("/run/a:b",), {"mode": "660"}),
            ("systemd:domain=INET:index=0", "systemd", (), {"domain": "INET", "index": "0"}),
            ("tcp", "tcp", (), {}),
            ("tcp:5000:", "tcp", ("5000", ""), {}),
        ):
            self.assertEqual(
                EndpointDescription.parse(text), EndpointDescription(kind, positional, named), text
            )

    def test_argument(self) -> None:
        """A name wins over a position; what is given by neither is empty."""
        description = EndpointDescription.parse("tcp:5000:interface=127.0.0.1")
        self.assertEqual(
            [description.argument(*given) for given in (("port", 0), ("interface", 1), ("backlog", 2))],
            ["5000", "127.0.0.1", ""],
        )
