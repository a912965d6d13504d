"""Who may do what: every kind of client, at every kind of repository."""

from collections.abc import Awaitable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred

from mirrord.access.authenticator import Asking, Authenticator, Caller
from mirrord.access.rules import Action, Rules
from mirrord.access.scopes import read_scopes
from mirrord.access.tokens import TokenIssuer
from mirrord.config.hosted import AccessConfig, Principal, RuleConfig
from mirrord.oci.errors import Denied, NameUnknown, RegistryError, TooManyRequests, Unauthorized
from mirrord.oci.names import RepositoryKey, RepositoryName
from tests.unit.access.cases import ANN, BOB, ORIGIN, AccessCase, FakeNames, asking, basic, hosted, hub

EVERYBODY, USERS, ANN_ONLY = (Principal("anonymous"),), (Principal("users"),), (Principal("user", "ann"),)
NEAR = (Principal("network", "10.0.0.0/8"), Principal("certificate", "ci"))

RULES = (
    RuleConfig(("team/near",), pull=EVERYBODY, push=NEAR),
    RuleConfig(("team/*",), pull=EVERYBODY, push=USERS, delete=ANN_ONLY),
    RuleConfig(("private/*",), pull=ANN_ONLY, push=ANN_ONLY),
    RuleConfig(("docker.io/library/*",), pull=EVERYBODY),
    RuleConfig(("docker.io/*",), pull=USERS),
)
TEAM, NEARBY, PRIVATE = hosted("team/a"), hosted("team/near"), hosted("private/a")
OPEN, CLOSED, UNRULED = hub("library/a"), hub("me/a"), RepositoryKey("quay.io", RepositoryName("a"))

# Who, where: what they may do, and how they are refused the rest: 401 or 403.
MATRIX: list[tuple[str, RepositoryKey, str, type[RegistryError]]] = [
    ("nobody", TEAM, "pull", Unauthorized),
    ("nobody", PRIVATE, "", Unauthorized),
    ("nobody", OPEN, "pull", Unauthorized),
    ("nobody", CLOSED, "", Unauthorized),
    ("nobody", UNRULED, "", Unauthorized),
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


class GateCase(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = self.load()
        self.tokens = TokenIssuer(Ed25519PrivateKey.generate(), self.clock.seconds)
        self.rules = Rules.of(AccessConfig(Path("htpasswd"), rules=RULES))
        self.gate = Authenticator(self.rules, FakeNames(), self.users, self.tokens)

    def caller(self, who: str = "nobody", authorization: str | None = None) -> Caller:
        return self.result(self.gate.admit(self.asking(who, authorization)))

    def asking(self, who: str, authorization: str | None = None) -> Asking:
        if who in PASSWORDS:
            return asking(basic(who, PASSWORDS[who]))
        certificates = ("ci",) if who == "ci" else ()
        return asking(authorization, "10.0.0.1" if who == "near" else "192.0.2.7", *certificates)

    def token(self, who: str, *scopes: str) -> str:
        return "Bearer " + self.result(self.gate.grant(self.asking(who), read_scopes(scopes))).token

    def refusal(self, awaited: Awaitable[object]) -> Unauthorized:
        error = self.failure(awaited, Unauthorized)
        assert isinstance(error, Unauthorized)
        return error


class MatrixTests(GateCase):
    def callers(self, who: str, source: RepositoryKey) -> Iterator[Caller]:
        """Them with what they bring at once, and with a token that they got for it."""
        yield self.caller(who)
        token = self.token(who, f"repository:{source.repository}:*")
        brought = self.asking(who)
        yield self.result(self.gate.admit(Asking(ORIGIN, brought.address, brought.certificates, token)))

    def test_every_cell(self) -> None:
        """Everybody may do what the rules say, by password as by token, and is refused all else."""
        for who, source, allowed, refusal in MATRIX:
            for caller in self.callers(who, source):
                for action in Action:
                    cell = f"{who} {action.value} {source}"
                    is_allowed = action.value in allowed.split()
                    self.assertEqual(caller.may(action, source, source.repository), is_allowed, cell)
                    self.assertEqual(caller.may(action, source), is_allowed, cell)
                    if is_allowed:
                        caller.require(action, source, source.repository)
                    else:
                        with self.assertRaises(refusal, msg=cell):
                            caller.require(action, source, source.repository)

    def test_wrong_password(self) -> None:
        """With a wrong password nobody may do anything, not even what everybody may."""
        for who in ("ann", "carl"):
            error = self.refusal(self.gate.admit(asking(basic(who, "wrong"), who)))
            self.assertEqual(error.challenge, f'Bearer realm="{ORIGIN}/v2/token",service="mirrord"')

    def test_unreadable_credentials(self) -> None:
        """Credentials that cannot be read are no anonymous request."""
        self.refusal(self.gate.admit(asking("Basic !")))
        self.assertFalse(self.caller(authorization="Negotiate x").may(Action.PUSH, TEAM))

    def test_slowed(self) -> None:
        """Who comes while guesses are waited for is told when to come again, at the token service too."""
        guesses = [Deferred.fromCoroutine(self.gate.admit(asking(basic("ann", str(n))))) for n in range(6)]
        error = self.failure(self.gate.admit(self.asking("ann")), TooManyRequests)
        self.assertEqual(error.retry_after_seconds, 7.0)
        self.failure(self.gate.grant(self.asking("bob"), ()), TooManyRequests)
        self.clock.advance(7)
        for guess in guesses:
            self.failureResultOf(guess, Unauthorized)
        self.caller("ann")


class ChallengeTests(GateCase):
    def test_first_question(self) -> None:
        """Before a password or a token has come, /v2/ asks for one, or no client would ever bring any."""
        with self.assertRaises(Unauthorized) as caught:
            self.caller().require_login()
        self.assertEqual(caught.exception.challenge, f'Bearer realm="{ORIGIN}/v2/token",service="mirrord"')
        for who, authorization in (("ann", None), ("nobody", self.token("nobody")), ("x", self.token("bob"))):
            self.caller(who, authorization).require_login()

    def test_scope(self) -> None:
        """A challenge names what is missing, by the name that the client has used."""
        with self.assertRaises(Unauthorized) as caught:
            self.caller().require(Action.PUSH, TEAM, RepositoryName("here/team/a"))
        self.assertTrue(
            caught.exception.challenge.endswith(',scope="repository:here/team/a:pull,push"'),
            caught.exception.challenge,
        )

    def test_narrow_token(self) -> None:
        """A token for less than its user may is refused with the word for it, and is good for the rest."""
        caller = self.caller(authorization=self.token("ann", "repository:team/b:pull,push"))
        caller.require(Action.PUSH, hosted("team/b"), RepositoryName("team/b"))
        caller.require(Action.PULL, TEAM, TEAM.repository)
        for action, source in ((Action.PUSH, TEAM), (Action.PULL, PRIVATE)):
            with self.assertRaises(Unauthorized) as caught:
                caller.require(action, source, source.repository)
            self.assertIn('error="insufficient_scope"', caught.exception.challenge)

    def test_realm(self) -> None:
        """The configured realm stands for what the client calls us."""
        gate = Authenticator(self.rules, FakeNames(), self.users, self.tokens, "https://mirror.example.com")
        with self.assertRaises(Unauthorized) as caught:
            self.result(gate.admit(asking())).require_login()
        self.assertIn('realm="https://mirror.example.com/v2/token"', caught.exception.challenge)

    def test_nobody_to_be(self) -> None:
        """Without users nobody is asked to log in, and credentials are ignored: what is refused is denied."""
        gate = Authenticator(Rules.of(None), FakeNames())
        caller = self.result(gate.admit(asking(basic("ann", "x"))))
        caller.require_login()
        caller.require(Action.PULL, PRIVATE, PRIVATE.repository)
        with self.assertRaises(Denied) as caught:
            caller.require(Action.PUSH, TEAM, TEAM.repository)
        self.assertIn("[access]", caught.exception.message)
        self.failure(gate.grant(asking(), ()), NameUnknown)
        here = self.result(gate.admit(asking(address="127.0.0.1")))
        here.require(Action.DELETE, TEAM, TEAM.repository)


class TokenTests(GateCase):
    def granted(self, asked: Asking, *scopes: str) -> str:
        return " ".join(map(str, self.result(self.gate.grant(asked, read_scopes(scopes))).scopes))

    def test_intersection(self) -> None:
        """Of what is asked for a token says what is granted, to the anonymous too."""
        wanted = ("repository:team/a:*", "repository:private/a:*", "repository:me/a:pull")
        for who, granted in (
            ("nobody", "repository:team/a:pull"),
            ("bob", "repository:team/a:pull,push repository:me/a:pull"),
            ("ann", "repository:team/a:pull,push,delete repository:private/a:pull,push repository:me/a:pull"),
        ):
            self.assertEqual(self.granted(self.asking(who), *wanted), granted, who)

    def test_wrong_password(self) -> None:
        """A wrong password gets no token, for what everybody may do at a hosted repository neither."""
        for scope in ((), ("repository:team/a:pull",), ("repository:me/a:pull",)):
            error = self.refusal(self.gate.grant(asking(basic("ann", "x"), str(scope)), read_scopes(scope)))
            self.assertTrue(error.challenge.startswith("Basic realm="))

    def test_docker_hubs_password(self) -> None:
        """A daemon may bring its password for Docker Hub to an open mirror: nobody looks at it."""
        for _ in range(30):
            asked = asking(basic("me", "dckr_pat_secret"))
            self.assertEqual(self.granted(asked, "repository:library/a:pull"), "repository:library/a:pull")
        self.assertEqual(self.threads.calls, 0)

    def test_use_is_asked_again(self) -> None:
        """A token does no more than the rules allow when it is used."""
        token = self.token("ann", "repository:private/a:pull,push")
        closed = Rules.of(AccessConfig(Path("htpasswd"), rules=(RuleConfig(("x",)),)))
        caller = self.result(Authenticator(closed, FakeNames(), self.users, self.tokens).admit(asking(token)))
        with self.assertRaises(Denied):
            caller.require(Action.PULL, PRIVATE, PRIVATE.repository)

    def test_removed_user(self) -> None:
        """Who is taken out of the file loses access with the next request, token or not."""
        token = self.token("ann", "repository:private/a:pull")
        self.caller(authorization=token).require(Action.PULL, PRIVATE, PRIVATE.repository)
        self.file.write_text(BOB + "# ann has left\n")
        self.clock.advance(1)
        self.assertIn("invalid_token", self.refusal(self.gate.admit(asking(token))).challenge)
        self.file.write_text(ANN)

    def test_expired(self) -> None:
        """An expired token is refused, so that its client gets another."""
        token = self.token("ann", "repository:team/a:pull")
        self.clock.advance(331)
        self.assertIn("invalid_token", self.refusal(self.gate.admit(asking(token))).challenge)

    def test_waits_for_nothing(self) -> None:
        """Whoever brings a token, or nothing, is recognised at once; a password is waited for."""
        token = self.token("ann", "repository:team/a:pull")
        self.threads.is_eager = False
        for authorization in (None, token):
            with self.assertRaises(StopIteration):
                self.gate.admit(asking(authorization)).send(None)
        self.gate.admit(asking(basic("bob", "berry"))).send(None)
        self.threads.work()
