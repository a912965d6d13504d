"""Tests of mirrord/upstream/authorization.py, over a network in memory."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionRefusedError as Refused

from mirrord.oci.errors import (
    AccountRefused,
    Denied,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
)
from mirrord.upstream.tokens import ATTEMPTS
from tests.unit.upstream.cases import BASIC, CDN, HEAD, MANIFEST, ClientTestCase
from tests.unit.upstream.scripted import (
    HOME,
    ME,
    REALM,
    Reply,
    SentRequest,
    challenge,
    token,
)


class AuthorizationTests(ClientTestCase):
    def test_bearer(self) -> None:
        """A challenge is satisfied with a token, which later requests to the repository are sent with."""
        self.use(challenge(), token(), HEAD, MANIFEST)
        self.result(self.resolve())
        self.result(self.fetch())

        self.assertEqual([None, None, "Bearer t1", "Bearer t1"], self.authorizations)
        self.assertEqual(
            f"GET {REALM}/token?service=registry.example&scope=repository%3Alibrary%2Fapp%3Apull",
            self.agent.lines[1],
        )

    def test_dropped_on_401(self) -> None:
        """A token that the registry rejects is replaced, once."""
        self.use(challenge(), token(), HEAD, challenge(), token("t2"), HEAD)
        self.result(self.resolve())
        self.clock.advance(1)
        self.result(self.resolve())

        self.assertEqual("Bearer t2", self.authorizations[-1])

    def test_moved_realm(self) -> None:
        """A token service that has moved is found by the registry's next challenge."""
        moved = challenge(realm="https://new.example/token")
        for gone in (Refused(), Reply(200, {}, b"a parking page")):
            self.use(challenge(), token(), HEAD, *[gone] * ATTEMPTS, moved, token("t2"), HEAD)
            self.result(self.resolve())
            self.clock.advance(60)
            resolving = self.begin(self.resolve())
            self.clock.pump([1, 1])
            self.failureResultOf(resolving, UpstreamError)
            self.result(self.resolve())

            self.assertIn("GET https://new.example/token", self.agent.lines[-2])
            self.assertEqual([None, None, "Bearer t2"], self.authorizations[-3:])

    def test_denied_in_advance(self) -> None:
        """A denial by a remembered token service counts only if the registry still names that service."""
        for denied in (400, 403, 404):
            moved = challenge(realm="https://new.example/token")
            self.use(challenge(), token(), HEAD, Reply(denied), moved, token("t2"), HEAD)
            self.result(self.resolve())
            self.clock.advance(60)
            self.result(self.resolve())
            self.assertEqual([None, None, "Bearer t2"], self.authorizations[-3:])

            self.clock.advance(60)
            for script in ([Reply(denied), moved, Reply(denied)], [moved, Reply(denied)]):
                before = len(self.agent.requests)
                self.agent.add(*script)
                self.failure(self.resolve(attempts=3), Denied)
                self.assertEqual(len(script), len(self.agent.requests) - before)

    def test_busy_realm(self) -> None:
        """A token service that limits our requests is used again later."""
        self.use(challenge(), token(), HEAD, Reply(429, {"Retry-After": "1"}), token("t2"), HEAD)
        self.result(self.resolve())
        self.clock.advance(60)
        self.failure(self.resolve(), UpstreamBusy)
        self.clock.advance(1)
        self.result(self.resolve())
        self.assertEqual("Bearer t2", self.authorizations[-1])

    def test_other_token(self) -> None:
        """A challenge for a different token is satisfied, however fresh the rejected one was."""
        self.use(challenge(), token(), challenge(scope="repository:library/app:pull,push"), token("t2"), HEAD)
        self.result(self.resolve())
        self.assertEqual([None, None, "Bearer t1", None, "Bearer t2"], self.authorizations)

    def test_missing_repository(self) -> None:
        """A 401 to a fresh token means that the repository does not exist for us."""
        self.use(challenge(), token(), challenge())
        self.failure(self.resolve(attempts=3), Denied)
        self.assertEqual(3, len(self.agent.requests))

    def test_own_account(self) -> None:
        """The account is sent to the upstream's own host and to the configured realm."""
        own = f"{HOME}/token"
        for realm, options in ((own, {}), (f"{REALM}/token", {"realm": REALM})):
            self.use(challenge(realm=realm), token(), HEAD, account=ME, **options)
            self.result(self.resolve())
            self.assertEqual([None, BASIC, "Bearer t1"], self.authorizations)

    def test_foreign_realm(self) -> None:
        """A realm on another host is sent an anonymous request, never the account."""
        for realm in (f"{REALM}/token", "https://registry.example.evil.example/", "https://evil.example/"):
            self.use(challenge(realm=realm), token(), HEAD, account=ME)
            self.result(self.resolve())
            self.assertEqual([None, None, "Bearer t1"], self.authorizations)

    def test_plain_realm(self) -> None:
        """An http realm is rejected for an https upstream; for an http one it is used on the same host."""
        self.use(challenge(realm="http://registry.example/token"), account=ME)
        self.failure(self.resolve(), UpstreamRefused)
        self.assertEqual(1, len(self.agent.requests))

        plain = "http://registry.example"
        self.use(challenge(realm=f"{plain}/token"), token(), HEAD, account=ME, url=plain)
        self.result(self.resolve())
        self.assertEqual(BASIC, self.authorizations[1])
        self.use(challenge(realm="http://auth.example/"), token(), HEAD, account=ME, url=plain, realm=REALM)
        self.result(self.resolve())
        self.assertIsNone(self.authorizations[1])

    def test_invalid_realm(self) -> None:
        """A realm that is not a URL is rejected, whether or not the upstream has TLS."""
        for url in (HOME, "http://registry.example"):
            for realm in (
                "",
                "/token",
                "http://[::1",
                "http://me:pw@registry.example/",
                "ftp://registry.example/",
            ):
                self.use(challenge(realm=realm), account=ME, url=url)
                self.failure(self.resolve(), UpstreamRefused)
                self.assertEqual(1, len(self.agent.requests))

    @given(
        st.sampled_from(["Bearer ", "bearer realm=", "Basic ", "", f'Bearer realm="{REALM}/token",']),
        st.lists(
            st.text('Bearer ,="\\\t/:?#[]@%htps.example', max_size=40) | st.text(max_size=40), max_size=3
        ),
    )
    def test_any_challenge(self, scheme: str, parts: list[str]) -> None:
        """Any challenge is satisfied or an error of the tree, and only our upstream gets the account."""
        refusal = Reply(401, {"WWW-Authenticate": scheme + ",".join(parts)})
        self.use(account=ME)

        def answer(request: SentRequest) -> Reply:
            if not request.url.startswith(f"{HOME}/v2/"):
                return token()
            return refusal if request.authorization is None else HEAD

        self.agent.always = answer
        resolving = self.begin(self.resolve())
        resolving.addErrback(lambda failure: failure.trap(Denied, UpstreamError))
        self.clock.pump([1, 1, 1])
        self.successResultOf(resolving)
        for request in self.agent.requests:
            if request.authorization == BASIC:
                self.assertTrue(request.url.startswith(HOME), request.url)

    def test_basic(self) -> None:
        """A Basic challenge is satisfied with the account, at the upstream's own origin only."""
        unauthorized = Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
        self.use(unauthorized, Reply(307, {"Location": CDN}), Reply(200, {}, b"blob"), account=ME)
        self.result(self.blob())
        self.assertEqual([None, BASIC, None], self.authorizations)

        self.use(unauthorized, unauthorized, account=ME)
        self.failure(self.resolve(), AccountRefused)
        self.use(unauthorized)
        self.failure(self.resolve(), Denied)

    def test_challenge_by_ping(self) -> None:
        """If a 401 has no challenge, that of /v2/ is satisfied, for the scope of the repository."""
        self.use(Reply(401), challenge(scope=None), token(), HEAD)
        self.result(self.resolve())
        self.assertEqual(f"GET {HOME}/v2/", self.agent.lines[1])
        self.assertIn("scope=repository%3Alibrary%2Fapp%3Apull", self.agent.lines[2])

        self.use(Reply(401), Reply(200))
        self.failure(self.resolve(), Denied)

    def test_private_realm(self) -> None:
        """A realm in our own network is rejected for an upstream that is not of its class."""
        for url, realm in (
            (HOME, "https://169.254.169.254/latest"),
            ("http://10.0.0.1", "http://127.0.0.1:5001/status"),
        ):
            self.use(challenge(realm=realm), url=url)
            resolving = self.begin(self.resolve())
            self.clock.pump([1, 1])
            self.failureResultOf(resolving, UpstreamRefused)
            self.assertEqual(1, len(self.agent.requests))

    def test_secrets_stay(self) -> None:
        """Neither the client nor its errors contain the password or a token."""
        self.use(challenge(realm=f"{HOME}/token"), token("sesame"), Reply(500), account=ME)
        error = self.failure(self.resolve(), UpstreamRefused)
        shown = f"{error!r} {self.client.status()!r} {vars(self.client)!r}"
        self.assertNotIn("sesame", shown)
        self.assertNotIn("s3cret", shown)
