import base64
import shutil
from urllib.parse import parse_qs

from tests.fakes.faults import Cut, ExpiredUrl, Kind, Status, WrongByte
from tests.fakes.scene import Manners
from tests.integration.case import MB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon

_PASSWORD = "canary-7f3a"
_CLIENT = "canary-client-51d0"
_ADMIN_PATHS = ("/metrics", "/status", "/readyz", "/healthz")
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


class CanaryTests(_AccountCase):
    """Whatever is secret is in nothing that the daemon says, whatever happens and however it is told."""

    def _pull_in_trouble(self, daemon: Daemon) -> str:
        """Pulls that go well, and each in another way that does not, by a client with secrets of its own.

        Returns all that the client was told of its errors.
        """
        told = []
        image = self.registry.put_image(MB)
        said = {"Authorization": f"Basic {_CLIENT}", "User-Agent": "docker/27", "Cookie": _CLIENT}
        self.assert_right(pull(daemon.manifest("latest"), said), image.manifest)
        for number, fault in enumerate(
            (
                Cut(after=300_000),
                ExpiredUrl(on=Kind.CONTENT),
                Status(on=Kind.CONTENT, code=500, body="no"),
                Status(on=Kind.BLOB, code=503),
                WrongByte(at=5),
            )
        ):
            blob = self.registry.put_blob(MB, seed=number + 2)
            self.registry.play(fault)
            told.append(pull(f"{daemon.blob(blob.digest)}?token={_CLIENT}&ns=docker.io", said))
        self.registry.heal()
        self.registry.revoke_tokens()
        references = ("absent", "latest?ns=docker.io&password=" + _CLIENT)
        told.extend(pull(daemon.manifest(reference), said) for reference in references)
        self.registry.down()
        told.append(pull(daemon.manifest("elsewhere"), said))
        self.registry.up()
        return "\n".join(f"{each.headers} {each.body!r}" for each in told if each.status >= 400)

    def _secrets(self) -> set[str]:
        """What nobody may say: passwords, tokens, signatures, and what the client brought."""
        secrets = {_PASSWORD, base64.b64encode(f"me:{_PASSWORD}".encode()).decode(), _CLIENT}
        for seen in self.registry.journal.requests():
            secrets.add((seen.header("authorization") or "Bearer ").partition(" ")[2])
            secrets.update(parse_qs(seen.target.partition("?")[2]).get("signature", ()))
        return secrets - {""}

    def test_nothing_secret_is_said(self) -> None:
        """No log in any format at debug, no access log, metric, status or error has anything secret in it."""
        for form in ("text", "json", "journal"):
            access = self.folder / f"access-{form}.log"
            log = f'[log]\nformat = "{form}"\nlevel = "debug"\naccess = "{access}"'
            daemon = self.start_daemon(more_upstream=self.account, more=log)
            told = self._pull_in_trouble(daemon)
            answers = [pull(daemon.admin_url + path).body.decode() for path in _ADMIN_PATHS]
            daemon.stop()

            secrets = self._secrets()
            self.assertGreater(len(secrets), 6)
            self.assertIn("errors", told)
            for name, said in {
                "log": daemon.log,
                "access log": access.read_text(),
                "admin": "".join(answers),
                "errors": told,
            }.items():
                self.assertGreater(len(said), 300, name)
                for secret in secrets:
                    self.assertNotIn(secret, said, f"{name} as {form}")
            shutil.rmtree(daemon.folder)
