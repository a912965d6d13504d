"""Tests of mirrord/api/token.py."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.task import Clock

from mirrord.access.authenticator import Authenticator
from mirrord.access.rules import Rules
from mirrord.access.tokens import TokenIssuer
from mirrord.api.token import MAX_FORM_BYTES, TokenResource
from mirrord.config.access import AccessConfig, Principal, RuleConfig
from mirrord.http.site import MirrorSite
from tests.fakes.configurations import configuration
from tests.fakes.wire import Client, Got, head
from tests.unit.access.cases import AccessCase, basic, resolve_scope

RULE = RuleConfig(repositories=("team/*",), pull=(Principal("anonymous"),), push=(Principal("users"),))
SCOPE = "repository:team/a:pull,push"
LOGIN = {"grant_type": "password", "service": "mirrord", "client_id": "containerd", "scope": SCOPE}


class TokenCase(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.tokens = TokenIssuer(Ed25519PrivateKey.generate(), self.clock.seconds)
        rules = Rules.of(configuration(AccessConfig(Path("htpasswd"), rules=(RULE,))))
        self.resource = TokenResource(
            Authenticator(rules=rules, resolve_scope=resolve_scope, users=self.load(), tokens=self.tokens)
        )
        self.client = Client(MirrorSite(Clock(), self.resource))

    def get(self, query: str = "", *headers: str, method: str = "GET") -> Got:
        return self.client.get(f"/v2/token?{query}", *headers, method=method)

    def post(self, form: bytes) -> Got:
        self.client.send(head("/v2/token", f"Content-Length: {len(form)}", method="POST") + form)
        return self.client.got()

    def granted(self, got: Got) -> tuple[str | None, str]:
        """Return the user and the scope of a token."""
        self.assertEqual(got.status, 200)
        document: dict[str, Any] = json.loads(got.body)
        self.assertEqual(document["token"], document["access_token"])
        claims = self.tokens.read(document["token"])
        self.assertEqual(document["scope"], " ".join(map(str, claims.scopes)))
        return claims.user, document["scope"]


class GetTests(TokenCase):
    def test_anonymous(self) -> None:
        """Without a password the token allows what anonymous clients may do."""
        self.assertEqual(
            self.granted(self.get(f"service=mirrord&scope={SCOPE}")), (None, "repository:team/a:pull")
        )

    def test_user(self) -> None:
        """With a password the token allows what the user may do; `docker login` requests no scope."""
        authorization = f"Authorization: {basic('ann', 'apple')}"
        self.assertEqual(self.granted(self.get(f"account=ann&scope={SCOPE}", authorization)), ("ann", SCOPE))
        self.assertEqual(self.granted(self.get("account=ann&offline_token=true", authorization)), ("ann", ""))

    def test_wrong_password(self) -> None:
        """A wrong password is an error whose message docker prints."""
        got = self.get("", f"Authorization: {basic('ann', 'x')}")
        self.assertEqual(got.status, 401)
        self.assertEqual(got.headers["www-authenticate"], 'Basic realm="mirrord", charset="UTF-8"')
        self.assertEqual(json.loads(got.body)["errors"][0]["code"], "UNAUTHORIZED")

    def test_too_often(self) -> None:
        """After too many wrong passwords the response is a 429 with Retry-After."""
        for number in range(6):
            other = Client(self.client.site)
            other.send(head("/v2/token", f"Authorization: {basic('ann', str(number))}"))
        got = self.get("", f"Authorization: {basic('ann', 'apple')}")
        self.assertEqual((got.status, got.headers["retry-after"]), (429, "7"))

    def test_answer(self) -> None:
        """The response must not be cached, and has the lifetime of the token."""
        got = self.get(f"scope={SCOPE}")
        self.assertEqual(got.headers["cache-control"], "no-store")
        document = json.loads(got.body)
        self.assertEqual(document["expires_in"], 300)
        self.assertEqual(set(document), {"token", "access_token", "token_type", "expires_in", "scope"})

    def test_other_methods(self) -> None:
        """HEAD is allowed as GET is; other methods than POST are not."""
        self.assertEqual(self.get(method="HEAD").body, b"")
        got = self.get(method="DELETE")
        self.assertEqual((got.status, got.headers["allow"]), (405, "GET, HEAD, POST"))

    def test_unreadable(self) -> None:
        """An invalid query is rejected."""
        for query in ("scope=%ff", "&".join("scope=a" for _ in range(200))):
            self.assertEqual(self.get(query).status, 400, query[:20])


class PostTests(TokenCase):
    def test_password(self) -> None:
        """The form of OAuth has the user and the password, and gets the same token."""
        form = urlencode({**LOGIN, "username": "ann", "password": "apple"}).encode()
        self.assertEqual(self.granted(self.post(form)), ("ann", SCOPE))

    def test_wrong_password(self) -> None:
        """A wrong or missing password in a form gets no token."""
        for login in ({"username": "ann", "password": "x"}, {"username": "ann"}, {}):
            self.assertEqual(self.post(urlencode({**LOGIN, **login}).encode()).status, 401)

    def test_other_grants(self) -> None:
        """A refresh token is rejected such that the client falls back to GET."""
        form = urlencode({"grant_type": "refresh_token", "refresh_token": "x"}).encode()
        self.assertEqual(self.post(form).status, 405)
        self.assertEqual(self.post(b"").status, 405)

    def test_too_long(self) -> None:
        """A form that is too long is rejected."""
        self.assertEqual(self.post(b"x" * (MAX_FORM_BYTES + 1)).status, 400)
