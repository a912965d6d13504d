"""Which principals the rules allow what."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.rules import Action, ClientIdentity, Rules
from mirrord.config.access import AccessConfig, Principal, RuleConfig
from mirrord.oci.names import RepositoryKey
from tests.fakes.configurations import configuration
from tests.unit.access.cases import hosted, hub

PRINCIPALS = [
    Principal("anonymous"),
    Principal("users"),
    Principal("user", "ann"),
    Principal("certificate", "ci"),
    Principal("network", "10.0.0.0/8"),
]
PATTERNS = ["*", "team/*", "team/a", "docker.io/*", "private/*", "hosted/*"]
KEYS = [hosted("team/a"), hosted("private/b"), hosted("docker.io/x"), hub("library/x"), hub("team/a")]

some_principals = st.lists(st.sampled_from(PRINCIPALS), max_size=2).map(tuple)
rules_of = st.lists(
    st.builds(
        RuleConfig,
        repositories=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(tuple),
        pull=some_principals,
        push=some_principals,
        delete=some_principals,
    ),
    min_size=1,
    max_size=4,
)
users = st.sampled_from([None, "ann", "bob"])
identities = st.builds(
    ClientIdentity,
    certificates=st.sampled_from([frozenset(), frozenset({"ci"})]),
    address=st.sampled_from(["", "10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "nonsense"]),
)
actions = st.sampled_from(list(Action))
keys = st.sampled_from(KEYS)


def rules(*configs: RuleConfig) -> Rules:
    """Return these rules, even where the configuration would reject them."""
    access = AccessConfig(rules=(RuleConfig(repositories=("*",)),))
    object.__setattr__(access, "rules", configs)
    return Rules.of(configuration(access))


ANYWHERE = ClientIdentity()


def at(address: str) -> ClientIdentity:
    return ClientIdentity(address=address)


def allowed(
    by: Rules, key: RepositoryKey, identity: ClientIdentity = ANYWHERE, user: str | None = None
) -> list[str]:
    return [action.value for action in Action if by.allows(action, key, identity, user)]


class RulesTests(SynchronousTestCase):
    def test_principals(self) -> None:
        """A principal includes the clients of its kind, and no others."""
        certified = ClientIdentity(certificates=frozenset({"x", "ci"}))
        clients: list[
            tuple[str, tuple[ClientIdentity, str | None], tuple[ClientIdentity, str | None] | None]
        ] = [
            ("anonymous", (ANYWHERE, None), None),
            ("users", (ANYWHERE, "bob"), (ANYWHERE, None)),
            ("user:ann", (ANYWHERE, "ann"), (ANYWHERE, "bob")),
            ("certificate:ci", (certified, None), (ANYWHERE, "ci")),
            ("network:10.0.0.0/8", (at("10.9.9.9"), None), (at("11.0.0.1"), None)),
            ("network:10.0.0.0/8", (at("::ffff:10.9.9.9"), None), (at(""), None)),
            ("network:fd00::/8", (at("fd00::1"), None), (at("10.0.0.1"), None)),
        ]
        for principal, inside, outside in clients:
            by = rules(RuleConfig(repositories=("*",), pull=(Principal.parse(principal),)))
            self.assertEqual(allowed(by, hosted("a"), *inside), ["pull"], principal)
            if outside is not None:
                self.assertEqual(allowed(by, hosted("a"), *outside), [], principal)

    def test_first_match(self) -> None:
        """The first rule that matches decides; where none does, no principal is allowed anything."""
        by = rules(
            RuleConfig(repositories=("team/*",), pull=(Principal("users"),), push=(Principal("user", "ann"),))
        )
        self.assertEqual({"users", "user:ann"}, set(map(str, by.principals(Action.PULL, hosted("team/a")))))
        self.assertEqual({"user:ann"}, set(map(str, by.principals(Action.PUSH, hosted("team/a")))))
        for action, key in ((Action.DELETE, hosted("team/a")), (Action.PULL, hub("team/a"))):
            self.assertEqual(frozenset(), by.principals(action, key))

    def test_changing_needs_reading(self) -> None:
        """Pushing and deleting each imply pulling, and nothing else."""
        by = rules(
            RuleConfig(
                repositories=("*",), push=(Principal("user", "ann"),), delete=(Principal("user", "bob"),)
            )
        )
        self.assertEqual(allowed(by, hosted("a"), user="ann"), ["pull", "push"])
        self.assertEqual(allowed(by, hosted("a"), user="bob"), ["pull", "delete"])

    def test_upstreams_are_named(self) -> None:
        """A pattern for hosted repositories does not match an upstream's of the same name."""
        by = rules(RuleConfig(repositories=("team/*",), pull=(Principal("anonymous"),)))
        self.assertEqual(allowed(by, hosted("team/a")), ["pull"])
        self.assertEqual(allowed(by, hub("team/a")), [])
        by = rules(RuleConfig(repositories=("docker.io/library/*",), pull=(Principal("anonymous"),)))
        self.assertEqual(allowed(by, hub("library/a")), ["pull"])

    def test_hosted_name_like_an_upstreams(self) -> None:
        """A rule for an upstream does not match a hosted repository whose name begins with the upstream's."""
        disguised = hosted("docker.io/library/a")
        for pattern, key, other in (
            ("docker.io/*", hub("library/a"), disguised),
            ("hosted/docker.io/*", disguised, hub("library/a")),
        ):
            by = rules(RuleConfig(repositories=(pattern,), pull=(Principal("anonymous"),)))
            self.assertEqual((allowed(by, key), allowed(by, other)), (["pull"], []), pattern)

    def test_without_access(self) -> None:
        """Without [access] all may pull, and only local clients push and delete, if that is enabled."""
        for is_enabled in (False, True):
            by = Rules.of(configuration(push_from_loopback=is_enabled))
            self.assertIn("push_from_loopback = true in [hosted]", by.refusal)
            for address in ("10.0.0.1", ""):
                self.assertEqual(allowed(by, hosted("a"), at(address)), ["pull"])
            for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
                local = ["pull", "push", "delete"] if is_enabled else ["pull"]
                self.assertEqual(allowed(by, hosted("a"), at(address)), local)

    def test_key_without_effect(self) -> None:
        """With [access] the rules alone decide, whether or not `push_from_loopback` is set."""
        access = AccessConfig(rules=(RuleConfig(repositories=("*",), pull=(Principal("anonymous"),)),))
        by = Rules.of(configuration(access, push_from_loopback=True))
        self.assertEqual(allowed(by, hosted("a"), at("127.0.0.1")), ["pull"])
        self.assertNotIn("push_from_loopback", by.refusal)

    @given(rules_of, identities, users, keys)
    def test_first_decides(
        self, configs: list[RuleConfig], identity: ClientIdentity, user: str | None, key: RepositoryKey
    ) -> None:
        """The first rule that matches decides as if it were the only one; without one nothing is allowed."""
        anonymous = (Principal("anonymous"),)
        matching = [
            config
            for config in configs
            if allowed(rules(RuleConfig(repositories=config.repositories, pull=anonymous)), key)
        ]
        self.assertEqual(
            allowed(rules(*configs), key, identity, user), allowed(rules(*matching[:1]), key, identity, user)
        )
        if not matching:
            self.assertEqual(allowed(rules(*configs), key, identity, user), [])

    @given(rules_of, identities, users, actions, keys)
    def test_login_takes_nothing_away(
        self,
        configs: list[RuleConfig],
        identity: ClientIdentity,
        user: str | None,
        action: Action,
        key: RepositoryKey,
    ) -> None:
        """A login never takes away what anonymous clients may do."""
        by = rules(*configs)
        if by.allows(action, key, identity):
            self.assertTrue(by.allows(action, key, identity, user))
