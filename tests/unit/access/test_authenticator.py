"""Authentication and authorization of every kind of client for every kind of repository."""

from collections.abc import Awaitable, Iterator
from pathlib import Path

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred

from mirrord.access.authenticator import Authenticator, Caller
from mirrord.access.rules import Action, ClientIdentity, Rules
from mirrord.access.scopes import read_scopes
from mirrord.access.tokens import TokenIssuer
from mirrord.config.access import AccessConfig, Principal, RuleConfig
from mirrord.oci.errors import Denied, NameUnknown, RegistryError, TooManyRequests, Unauthorized
from mirrord.oci.names import RepositoryKey, RepositoryName
from tests.fakes.configurations import configuration
from tests.unit.access.cases import (
    ANN,
    BOB,
    ORIGIN,
    AccessCase,
    basic,
    hashed,
    hosted,
    hub,
    identity,
    resolve_scope,
)

ANONYMOUS, USERS, ANN_ONLY = (Principal("anonymous"),), (Principal("users"),), (Principal("user", "ann"),)
NEAR = (Principal("network", "10.0.0.0/8"), Principal("certificate", "ci"))

RULES = (
    RuleConfig(repositories=("team/near",), pull=ANONYMOUS, push=NEAR),
    RuleConfig(repositories=("team/*",), pull=ANONYMOUS, push=USERS, delete=ANN_ONLY),
    RuleConfig(repositories=("private/*",), pull=ANN_ONLY, push=ANN_ONLY),
    RuleConfig(repositories=("docker.io/library/*",), pull=ANONYMOUS),
    RuleConfig(repositories=("docker.io/*",), pull=USERS),
)
TEAM, NEARBY, PRIVATE = hosted("team/a"), hosted("team/near"), hosted("private/a")
OPEN, CLOSED, UNRULED = hub("library/a"), hub("me/a"), RepositoryKey("quay.io", RepositoryName("a"))

# Client, repository, the allowed actions, and the error of all others (401 or 403).
MATRIX: list[tuple[str, RepositoryKey, str, type[RegistryError]]] = [
    ("anonymous", TEAM, "pull", Unauthorized),
    ("anonymous", PRIVATE, "", Unauthorized),
    ("anonymous", OPEN, "pull", Unauthorized),
    ("anonymous", CLOSED, "", Unauthorized),
    ("anonymous", UNRULED, "", Unauthorized),
    ("ann", TEAM, "pull push delete", Denied),
    ("ann", PRIVATE, "pull push", Denied),
    ("ann", OPEN, "pull", Denied),
    ("ann", CLOSED, "pull", Denied),
    ("ann", UNRULED, "", Denied),
    ("bob", TEAM, "pull push", Denied),
    ("bob", NEARBY, "pull", Denied),
    ("bob", PRIVATE, "", Denied),
    ("bob", OPEN, "pull", Denied),
    ("bob", CLOSED, "pull", Denied),
    ("near", NEARBY, "pull push", Unauthorized),
    ("near", PRIVATE, "", Unauthorized),
    ("ci", NEARBY, "pull push", Unauthorized),
]
PASSWORDS = {"ann": "apple", "bob": "berry"}


class AuthenticatorCase(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = self.load()
        self.tokens = TokenIssuer(Ed25519PrivateKey.generate(), self.clock.seconds)
        self.rules = Rules.of(configuration(AccessConfig(Path("htpasswd"), rules=RULES)))
        self.authenticator = self.make()

    def make(self, rules: Rules | None = None, realm: str | None = None) -> Authenticator:
        return Authenticator(
            rules=rules or self.rules,
            resolve_scope=resolve_scope,
            users=self.users,
            tokens=self.tokens,
            realm=realm,
        )

    def caller(self, who: str = "anonymous", authorization: str | None = None) -> Caller:
        return self.result(self.authenticator.authenticate(self.identity(who, authorization)))

    def identity(self, who: str, authorization: str | None = None) -> ClientIdentity:
        if who in PASSWORDS:
            return identity(basic(who, PASSWORDS[who]))
        certificates = ("ci",) if who == "ci" else ()
        return identity(authorization, "10.0.0.1" if who == "near" else "192.0.2.7", *certificates)

    def token(self, who: str, *scopes: str) -> str:
        return (
            "Bearer "
            + self.result(self.authenticator.issue_token(self.identity(who), read_scopes(scopes))).token
        )

    def refusal(self, awaited: Awaitable[object]) -> Unauthorized:
        error = self.failure(awaited, Unauthorized)
        assert isinstance(error, Unauthorized)
        return error


class MatrixTests(AuthenticatorCase):
    def callers(self, who: str, key: RepositoryKey) -> Iterator[Caller]:
        """Yield the client, authenticated by its credentials and by a token that it was issued for them."""
        yield self.caller(who)
        token = self.token(who, f"repository:{key.repository}:*")
        yield self.result(
            self.authenticator.authenticate(attrs.evolve(self.identity(who), authorization=token))
        )

    def test_every_cell(self) -> None:
        """The rules decide, whether the client sends a password or a token; the rest is refused."""
        for who, key, allowed, refusal in MATRIX:
            for caller in self.callers(who, key):
                for action in Action:
                    cell = f"{who} {action.value} {key}"
                    is_allowed = action.value in allowed.split()
                    self.assertEqual(caller.is_allowed(action, key, key.repository), is_allowed, cell)
                    self.assertEqual(caller.is_allowed(action, key), is_allowed, cell)
                    if is_allowed:
                        caller.require(action, key, key.repository)
                    else:
                        with self.assertRaises(refusal, msg=cell):
                            caller.require(action, key, key.repository)

    def test_wrong_password(self) -> None:
        """A wrong password is rejected, even for what anonymous clients may do."""
        for who in ("ann", "carl"):
            error = self.refusal(self.authenticator.authenticate(identity(basic(who, "wrong"), who)))
            self.assertEqual(error.challenge, f'Bearer realm="{ORIGIN}/v2/token",service="mirrord"')

    def test_unreadable_credentials(self) -> None:
        """A request with malformed credentials is not anonymous; an unknown scheme is ignored."""
        self.refusal(self.authenticator.authenticate(identity("Basic !")))
        self.assertFalse(self.caller(authorization="Negotiate x").is_allowed(Action.PUSH, TEAM))

    def test_throttled(self) -> None:
        """A login while attempts are delayed is rejected with Retry-After, at the token service too."""
        guesses = [
            Deferred.fromCoroutine(self.authenticator.authenticate(identity(basic("ann", str(n)))))
            for n in range(6)
        ]
        error = self.failure(self.authenticator.authenticate(self.identity("ann")), TooManyRequests)
        self.assertEqual(error.retry_after_seconds, 7.0)
        self.failure(self.authenticator.issue_token(self.identity("bob"), ()), TooManyRequests)
        self.clock.advance(7)
        for guess in guesses:
            self.failureResultOf(guess, Unauthorized)
        self.caller("ann")


class ChallengeTests(AuthenticatorCase):
    def test_ping(self) -> None:
        """/v2/ requires a password or a token, since no client would send any otherwise."""
        with self.assertRaises(Unauthorized) as caught:
            self.caller().require_login()
        self.assertEqual(caught.exception.challenge, f'Bearer realm="{ORIGIN}/v2/token",service="mirrord"')
        for who, authorization in (
            ("ann", None),
            ("anonymous", self.token("anonymous")),
            ("x", self.token("bob")),
        ):
            self.caller(who, authorization).require_login()

    def test_scope(self) -> None:
        """A challenge contains the missing scope under the name that the client has used."""
        with self.assertRaises(Unauthorized) as caught:
            self.caller().require(Action.PUSH, TEAM, RepositoryName("here/team/a"))
        self.assertTrue(
            caught.exception.challenge.endswith(',scope="repository:here/team/a:pull,push"'),
            caught.exception.challenge,
        )

    def test_narrow_token(self) -> None:
        """Outside its scopes a token is rejected with insufficient_scope; within them it is accepted."""
        caller = self.caller(authorization=self.token("ann", "repository:team/b:pull,push"))
        caller.require(Action.PUSH, hosted("team/b"), RepositoryName("team/b"))
        caller.require(Action.PULL, TEAM, TEAM.repository)
        for action, key in ((Action.PUSH, TEAM), (Action.PULL, PRIVATE)):
            with self.assertRaises(Unauthorized) as caught:
                caller.require(action, key, key.repository)
            self.assertIn('error="insufficient_scope"', caught.exception.challenge)

    def test_token_for_another_registry(self) -> None:
        """A token for a hosted repository is not valid for an upstream's of that name, opened later."""
        token = self.token("ann", "repository:team/a:pull,push")
        open_hub = RuleConfig(repositories=("docker.io/*",), pull=USERS)
        access = AccessConfig(Path("htpasswd"), rules=(open_hub, *RULES))
        self.authenticator = self.make(Rules.of(configuration(access)))
        caller = self.caller(authorization=token)
        caller.require(Action.PUSH, TEAM, TEAM.repository)
        with self.assertRaises(Unauthorized) as caught:
            caller.require(Action.PULL, hub("team/a"), TEAM.repository)
        self.assertIn('error="insufficient_scope"', caught.exception.challenge)

    def test_realm(self) -> None:
        """The configured realm replaces the origin of the request."""
        authenticator = self.make(realm="https://mirror.example.com")
        with self.assertRaises(Unauthorized) as caught:
            self.result(authenticator.authenticate(identity())).require_login()
        self.assertIn('realm="https://mirror.example.com/v2/token"', caught.exception.challenge)

    def test_without_users(self) -> None:
        """Without users credentials are ignored, and what the rules do not allow is 403, not 401."""
        rules = Rules.of(configuration(push_from_loopback=True))
        authenticator = Authenticator(rules=rules, resolve_scope=resolve_scope)
        caller = self.result(authenticator.authenticate(identity(basic("ann", "x"))))
        caller.require_login()
        caller.require(Action.PULL, PRIVATE, PRIVATE.repository)
        with self.assertRaises(Denied) as caught:
            caller.require(Action.PUSH, TEAM, TEAM.repository)
        self.assertIn("[access]", caught.exception.message)
        self.failure(authenticator.issue_token(identity(), ()), NameUnknown)
        here = self.result(authenticator.authenticate(identity(address="127.0.0.1")))
        here.require(Action.DELETE, TEAM, TEAM.repository)


class TokenTests(AuthenticatorCase):
    def granted(self, client: ClientIdentity, *scopes: str) -> str:
        return " ".join(
            map(str, self.result(self.authenticator.issue_token(client, read_scopes(scopes))).scopes)
        )

    def test_intersection(self) -> None:
        """A token contains the allowed part of the requested scopes, for anonymous clients too."""
        requested = ("repository:team/a:*", "repository:private/a:*", "repository:me/a:pull")
        for who, granted in (
            ("anonymous", "repository:team/a:pull"),
            ("bob", "repository:team/a:pull,push repository:me/a:pull"),
            ("ann", "repository:team/a:pull,push,delete repository:private/a:pull,push repository:me/a:pull"),
        ):
            self.assertEqual(self.granted(self.identity(who), *requested), granted, who)

    def test_wrong_password(self) -> None:
        """A wrong password is issued no token, even for what is open in a hosted repository."""
        for scope in ((), ("repository:team/a:pull",), ("repository:me/a:pull",)):
            error = self.refusal(
                self.authenticator.issue_token(identity(basic("ann", "x"), str(scope)), read_scopes(scope))
            )
            self.assertTrue(error.challenge.startswith("Basic realm="))

    def test_docker_hubs_password(self) -> None:
        """The password for Docker Hub that a daemon sends to an open mirror is not checked."""
        for _ in range(30):
            client = identity(basic("me", "dckr_pat_secret"))
            self.assertEqual(self.granted(client, "repository:library/a:pull"), "repository:library/a:pull")
        self.assertEqual(self.threads.calls, 0)

    def test_use_is_checked(self) -> None:
        """The rules are evaluated when a token is used, not only when it is issued."""
        token = self.token("ann", "repository:private/a:pull,push")
        nothing = AccessConfig(Path("htpasswd"), rules=(RuleConfig(repositories=("x",)),))
        closed = Rules.of(configuration(nothing))
        caller = self.result(self.make(closed).authenticate(identity(token)))
        with self.assertRaises(Denied):
            caller.require(Action.PULL, PRIVATE, PRIVATE.repository)

    def test_removed_user(self) -> None:
        """A user who is removed from the file loses access with the next request, even with a token."""
        token = self.token("ann", "repository:private/a:pull")
        self.caller(authorization=token).require(Action.PULL, PRIVATE, PRIVATE.repository)
        self.file.write_text(BOB + "# ann has left\n")
        self.clock.advance(1)
        self.assertIn(
            "invalid_token", self.refusal(self.authenticator.authenticate(identity(token))).challenge
        )
        self.file.write_text(ANN)

    def test_changed_password(self) -> None:
        """A changed password ends its tokens with the next request; those of other users stay valid."""
        tokens = {who: self.token(who, "repository:team/a:pull,push") for who in ("ann", "bob")}
        self.caller(authorization=tokens["ann"])
        self.file.write_text(BOB + f"ann:{hashed('apricot')}\n# changed\n")
        self.clock.advance(1)
        self.assertIn(
            "invalid_token", self.refusal(self.authenticator.authenticate(identity(tokens["ann"]))).challenge
        )
        self.caller(authorization=tokens["bob"]).require(Action.PUSH, TEAM, TEAM.repository)

    def test_changed_while_it_is_checked(self) -> None:
        """A token that was requested with a password that changes meanwhile is not valid."""
        self.threads.is_eager = False
        issuing = Deferred.fromCoroutine(self.authenticator.issue_token(self.identity("ann"), ()))
        self.file.write_text(f"ann:{hashed('apricot')}\n# changed\n")
        self.users.reload()
        self.threads.work()
        token = self.successResultOf(issuing).token
        self.refusal(self.authenticator.authenticate(identity(f"Bearer {token}")))

    def test_expired(self) -> None:
        """An expired token is rejected with a challenge, so that the client requests another."""
        token = self.token("ann", "repository:team/a:pull")
        self.clock.advance(331)
        self.assertIn(
            "invalid_token", self.refusal(self.authenticator.authenticate(identity(token))).challenge
        )

    def test_synchronous(self) -> None:
        """Authentication is synchronous with a token or without credentials; a password is waited for."""
        token = self.token("ann", "repository:team/a:pull")
        self.threads.is_eager = False
        for authorization in (None, token):
            with self.assertRaises(StopIteration):
                self.authenticator.authenticate(identity(authorization)).send(None)
        self.authenticator.authenticate(identity(basic("bob", "berry"))).send(None)
        self.threads.work()
