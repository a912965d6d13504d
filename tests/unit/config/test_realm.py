"""Tests of the rule which token service may receive an account (mirrord/config/config.py)."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.config import UpstreamConfig
from mirrord.config.schema import InvalidKey

HTTPS = "https://registry.example"
HTTP = "http://registry.example:5000"
REALM = "https://auth.example"


class RealmTests(SynchronousTestCase):
    def test_realms(self) -> None:
        """An account is sent over TLS to the own or configured host, without TLS to the own host only."""
        for url, configured, realm, may_receive in (
            (HTTPS, None, "https://registry.example/token", True),
            (HTTPS, None, "https://registry.example:8443/token", True),
            (HTTPS, None, "https://REGISTRY.example/token?x=1", True),
            (HTTPS, None, "http://registry.example/token", False),
            (HTTPS, None, "https://auth.example/token", False),
            (HTTPS, None, "https://registry.example.evil.example/", False),
            (HTTPS, None, "https://evil.example/registry.example", False),
            (HTTPS, None, "https://sub.registry.example/", False),
            (HTTPS, None, "ftp://registry.example/", False),
            (HTTPS, None, "", False),
            (HTTPS, REALM, "https://auth.example/token", True),
            (HTTPS, REALM, "https://auth.example:8443/token", True),
            (HTTPS, REALM, "https://registry.example/token", True),
            (HTTPS, REALM, "http://auth.example/token", False),
            (HTTPS, REALM, "https://auth.example.evil.example/", False),
            (HTTP, None, "http://registry.example:5000/token", True),
            (HTTP, None, "http://registry.example:5001/token", True),
            (HTTP, None, "https://registry.example/token", True),
            (HTTP, None, "http://auth.example/token", False),
            (HTTP, None, "ftp://registry.example/", False),
            (HTTP, "http://registry.example:5001", "http://registry.example:5001/token", True),
            (HTTP, REALM, "https://auth.example/token", True),
            (HTTP, REALM, "http://auth.example/token", False),
        ):
            config = UpstreamConfig(name="registry.example", url=url, realm=configured)
            found = config.may_receive_account(realm)
            self.assertEqual(may_receive, found, (url, configured, realm))

    def test_configured(self) -> None:
        """A realm that may not receive the account cannot be configured."""
        for url, realm in ((HTTPS, "http://auth.example"), (HTTP, "http://auth.example")):
            with self.assertRaises(InvalidKey):
                UpstreamConfig(name="registry.example", url=url, realm=realm)
        with self.assertRaises(InvalidKey):
            UpstreamConfig(name="registry.example", url=HTTPS, realm="http://registry.example")
