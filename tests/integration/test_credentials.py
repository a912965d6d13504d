import base64

from tests.fakes.faults import Kind
from tests.fakes.scene import Manners
from tests.integration.case import MB, MirrorCase
from tests.integration.client import pull

_PASSWORD = "canary-7f3a"
_ACCOUNT = """
[[upstream.account]]
username = "me"
password_file = "{file}"
"""


class _AccountCase(MirrorCase):
    manners = Manners(accounts={"me": _PASSWORD})

    def setUp(self) -> None:
        super().setUp()
        password = self.folder / "password"
        password.write_text(_PASSWORD + "\n")
        password.chmod(0o600)
        self.account = _ACCOUNT.format(file=password)

    def _passwords_seen(self) -> list[str]:
        secret = base64.b64encode(f"me:{_PASSWORD}".encode()).decode()
        return [seen.target for seen in self.registry.journal.requests() if secret in str(seen.headers)]


class OwnRealmTests(_AccountCase):
    def test_our_password_goes_to_our_realm_only(self) -> None:
        """The password is seen by the upstream's own token service, and by nobody and nothing else."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon(more_upstream=self.account)
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.assertEqual({target.partition("?")[0] for target in self._passwords_seen()}, {"/token"})
        for seen in self.registry.journal.requests(Kind.CONTENT):
            self.assertFalse(seen.has_authorization)
        self.assertNotIn(_PASSWORD, daemon.log)
        for path in ("/metrics", "/status", "/healthz"):
            self.assertNotIn(_PASSWORD.encode(), pull(daemon.admin_url + path).body)


class ForeignRealmTests(_AccountCase):
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

    def test_a_realm_on_another_host_gets_no_password(self) -> None:
        """A challenge that names a token service elsewhere does not get our password."""
        self.registry.put_image(MB)
        daemon = self.start_daemon(more_upstream=self.account)
        pull(daemon.manifest("latest"))
        self.assertEqual(self._passwords_seen(), [])
        self.assertNotIn(_PASSWORD, daemon.log)
