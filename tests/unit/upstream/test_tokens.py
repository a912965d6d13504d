"""Tests of mirrord/upstream/tokens.py, over a network in memory."""

from twisted.internet.defer import CancelledError

from mirrord.oci.errors import (
    AccountRefused,
    Denied,
    UpstreamRefused,
)
from mirrord.oci.names import RepositoryName
from mirrord.upstream.tokens import ATTEMPTS
from tests.unit.upstream.cases import BASIC, HEAD, LATEST, ClientTestCase
from tests.unit.upstream.scripted import (
    HOME,
    ME,
    REALM,
    FakeResponse,
    Hang,
    Reply,
    SentRequest,
    challenge,
    token,
)


class TokenTests(ClientTestCase):
    def test_one_token_for_many(self) -> None:
        """Concurrent requests share one token request, and cancelling one does not affect the others."""
        self.use(challenge(), Hang())
        waiting = [self.begin(self.resolve()) for _ in range(3)]
        self.assertEqual(2, len(self.agent.requests))
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.agent.add(HEAD, HEAD)
        self.agent.pending[0].callback(FakeResponse(token()))
        for each in waiting[1:]:
            self.successResultOf(each)
        self.assertEqual(4, len(self.agent.requests))

    def test_hanging_token(self) -> None:
        """A token request that hangs costs five seconds, not the pull."""
        self.use(challenge(), Hang(), token(), HEAD)
        resolving = self.begin(self.resolve())
        self.clock.pump([5, 0.25])
        self.successResultOf(resolving)

    def test_expiry(self) -> None:
        """A token is used until ten seconds before it expires, after 60 s by default."""
        self.use(challenge(), token(), HEAD, HEAD, token("t2", expires_in=300), HEAD, HEAD)
        self.result(self.resolve())
        self.clock.advance(49)
        self.result(self.resolve())
        self.clock.advance(1)
        self.result(self.resolve())
        self.clock.advance(289)
        self.result(self.resolve())

        self.assertEqual(
            ["Bearer t1"] * 2 + ["Bearer t2"] * 2, [each for each in self.authorizations if each]
        )

    def test_longest(self) -> None:
        """A token of 16 KiB is accepted, also twice; a longer one, or a longer response, is rejected."""
        good = "t" * 16384
        twice = f'{{"token": "{good}", "access_token": "{good}"}}'.encode()
        self.use(challenge(), Reply(200, {}, twice), HEAD)
        self.result(self.resolve())
        self.assertEqual(f"Bearer {good}", self.authorizations[-1])

        for refused, why in (
            (token(good + "t"), "a token of more"),
            (Reply(200, {}, bytes(65537)), "65536 bytes"),
        ):
            self.use(challenge(), *[refused] * ATTEMPTS)
            resolving = self.begin(self.resolve())
            self.clock.pump([1, 1])
            self.assertIn(why, str(self.failureResultOf(resolving, UpstreamRefused).value))

    def test_newer_token_stays(self) -> None:
        """Two requests that are rejected with one old token fetch one new token, not one each."""
        self.use(challenge(), token(), HEAD, Hang(), Hang())
        self.result(self.resolve())
        self.clock.advance(1)
        waiting = [self.begin(self.resolve()) for _ in range(2)]
        self.agent.add(token("t2"), HEAD, HEAD)
        for refused, resolving in zip(self.agent.pending, waiting, strict=True):
            refused.callback(FakeResponse(challenge()))
            self.successResultOf(resolving)

        self.assertEqual(["Bearer t1"] * 3 + [None] + ["Bearer t2"] * 2, self.authorizations[2:])

    def test_many_repositories(self) -> None:
        """1,000 challenges and tokens are cached; one more evicts the least recently used."""

        def answer(request: SentRequest) -> Reply:
            if request.url.startswith(REALM):
                return token()
            return challenge(request.url) if request.authorization is None else HEAD

        def cost(number: int) -> int:
            before = len(self.agent.requests)
            repository = RepositoryName(f"library/app{number}")
            self.result(self.client.resolve(repository, LATEST, budget_seconds=20, attempts=1))
            return len(self.agent.requests) - before

        self.use()
        self.agent.always = answer
        for number in range(1001):
            cost(number)
        self.assertEqual([1, 1, 3, 3, 1], [cost(number) for number in (1, 1000, 0, 2, 1)])

    def test_access_token(self) -> None:
        """A token may be named access_token; a body without either, or not JSON, is rejected."""
        self.use(challenge(), Reply(200, {}, b'{"access_token": "t9"}'), HEAD)
        self.result(self.resolve())
        self.assertEqual("Bearer t9", self.authorizations[-1])
        for body in (b"{}", b"[]", b"<html>", b'{"token": "a\\r\\nX: y"}', b'{"token": 5}', b"[" * 100_000):
            self.use(challenge(), *[Reply(200, {}, body)] * 3)
            resolving = self.begin(self.resolve())
            self.clock.pump([1, 1])
            self.failureResultOf(resolving, UpstreamRefused)

    def test_realm_redirects(self) -> None:
        """A redirect of the token service to another origin is followed without the account."""
        self.use(
            challenge(realm=f"{HOME}/token"),
            Reply(302, {"Location": "https://evil.example/"}),
            token(),
            HEAD,
            account=ME,
        )
        self.result(self.resolve())
        self.assertEqual([None, BASIC, None, "Bearer t1"], self.authorizations)

    def test_refused_account(self) -> None:
        """A 401 with the account is AccountRefused; any other denial is about the repository."""
        own = challenge(realm=f"{HOME}/token")
        self.use(own, Reply(401), account=ME)
        self.failure(self.resolve(attempts=3), AccountRefused)
        for status in (400, 403, 404):
            self.use(own, Reply(status), account=ME)
            self.failure(self.resolve(attempts=3), Denied)
        for status in (400, 401, 403, 404):
            self.use(challenge(), Reply(status))
            self.failure(self.resolve(attempts=3), Denied)

    def test_refused_elsewhere(self) -> None:
        """A 401 from where the token service redirected to, without the account, is not about the account."""
        elsewhere = Reply(302, {"Location": "https://other.example/"})
        self.use(challenge(realm=f"{HOME}/token"), elsewhere, Reply(401), account=ME)
        self.failure(self.resolve(attempts=3), Denied)
