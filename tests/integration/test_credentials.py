import base64
import shutil
from urllib.parse import parse_qs

from tests.fakes.faults import Cut, ExpiredUrl, Kind, Status, WrongByte
from tests.fakes.state import RegistryBehavior
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
    behavior = RegistryBehavior(accounts={"me": _PASSWORD})

    def setUp(self) -> None:
        super().setUp()
        password = self.folder / "password"
        password.write_text(_PASSWORD + "\n")
        password.chmod(0o600)
        self.account = _ACCOUNT.format(file=password)

    def _targets_with_password(self) -> list[str]:
        secret = base64.b64encode(f"me:{_PASSWORD}".encode()).decode()
        return [
            request.target for request in self.registry.journal.requests() if secret in str(request.headers)
        ]


class OwnRealmTests(_AccountCase):
    def test_the_password_goes_to_the_own_realm_only(self) -> None:
        """The password is sent to the upstream's own token service only, and is in no log or metric."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon(more_upstream=self.account)
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.assertEqual({target.partition("?")[0] for target in self._targets_with_password()}, {"/token"})
        for request in self.registry.journal.requests(Kind.CONTENT):
            self.assertFalse(request.has_authorization)
        self.assertNotIn(_PASSWORD, daemon.log)
        for path in ("/metrics", "/status", "/healthz"):
            self.assertNotIn(_PASSWORD.encode(), pull(daemon.admin_url + path).body)


class ForeignRealmTests(_AccountCase):
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

    def test_a_realm_on_another_host_gets_no_password(self) -> None:
        """A token service on another host does not receive the password."""
        self.registry.put_image(MB)
        daemon = self.start_daemon(more_upstream=self.account)
        pull(daemon.manifest("latest"))
        self.assertEqual(self._targets_with_password(), [])
        self.assertNotIn(_PASSWORD, daemon.log)


class CanaryTests(_AccountCase):
    """No secret is in any output of the daemon, whatever fails."""

    def _pull_with_faults(self, daemon: Daemon) -> str:
        """Pull with secrets in the request, successfully and with each kind of failure; return all errors."""
        responses = []
        image = self.registry.put_image(MB)
        headers = {"Authorization": f"Basic {_CLIENT}", "User-Agent": "docker/27", "Cookie": _CLIENT}
        self.assert_right(pull(daemon.manifest("latest"), headers), image.manifest)
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
            responses.append(pull(f"{daemon.blob(blob.digest)}?token={_CLIENT}&ns=docker.io", headers))
        self.registry.heal()
        self.registry.revoke_tokens()
        references = ("absent", "latest?ns=docker.io&password=" + _CLIENT)
        responses.extend(pull(daemon.manifest(reference), headers) for reference in references)
        self.registry.down()
        responses.append(pull(daemon.manifest("elsewhere"), headers))
        self.registry.up()
        return "\n".join(f"{each.headers} {each.body!r}" for each in responses if each.status >= 400)

    def _secrets(self) -> set[str]:
        """Return all passwords, tokens and signatures, including those of the client."""
        secrets = {_PASSWORD, base64.b64encode(f"me:{_PASSWORD}".encode()).decode(), _CLIENT}
        for request in self.registry.journal.requests():
            secrets.add((request.header("authorization") or "Bearer ").partition(" ")[2])
            secrets.update(parse_qs(request.target.partition("?")[2]).get("signature", ()))
        return secrets - {""}

    def test_no_secret_is_disclosed(self) -> None:
        """No secret is in a log of any format at debug, the access log, a metric, the status or an error."""
        for form in ("text", "json", "journal"):
            access = self.folder / f"access-{form}.log"
            log = f'[log]\nformat = "{form}"\nlevel = "debug"\naccess = "{access}"'
            daemon = self.start_daemon(more_upstream=self.account, more=log)
            errors = self._pull_with_faults(daemon)
            pages = [pull(daemon.admin_url + path).body.decode() for path in _ADMIN_PATHS]
            daemon.stop()

            secrets = self._secrets()
            self.assertGreater(len(secrets), 6)
            self.assertIn("errors", errors)
            for name, output in {
                "log": daemon.log,
                "access log": access.read_text(),
                "admin": "".join(pages),
                "errors": errors,
            }.items():
                self.assertGreater(len(output), 300, name)
                for secret in secrets:
                    self.assertNotIn(secret, output, f"{name} as {form}")
            shutil.rmtree(daemon.folder)
