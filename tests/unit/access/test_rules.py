"""Who may do what in which repository."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.access.rules import Action, Identity, Rules
from mirrord.config.hosted import AccessConfig, Principal, RuleConfig
from mirrord.oci.names import RepositoryKey
from tests.unit.access.cases import hosted, hub

PARTIES = [
    Principal("anonymous"),
    Principal("users"),
    Principal("user", "ann"),
    Principal("certificate", "ci"),
    Principal("network", "10.0.0.0/8"),
]
PATTERNS = ["*", "team/*", "team/a", "docker.io/*", "private/*"]
SOURCES = [hosted("team/a"), hosted("private/b"), hub("library/x"), hub("team/a")]

rules_of = st.lists(
    st.builds(
        RuleConfig,
        st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(tuple),
        *[st.lists(st.sampled_from(PARTIES), max_size=2).map(tuple)] * 3,
    ),
    min_size=1,
    max_size=4,
)
identities = st.builds(
    Identity,
    st.sampled_from([None, "ann", "bob"]),
    st.sampled_from([frozenset(), frozenset({"ci"})]),
    st.sampled_from(["", "10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "nonsense"]),
)
actions = st.sampled_from(list(Action))
sources = st.sampled_from(SOURCES)


def rules(*configs: RuleConfig) -> Rules:
    """These rules, also where the configuration would not take them."""
    access = AccessConfig(rules=(RuleConfig(("*",)),))
    object.__setattr__(access, "rules", configs)
    return Rules.of(access)


def allowed(by: Rules, identity: Identity, source: RepositoryKey) -> list[str]:
    return [action.value for action in Action if by.allows(identity, action, source)]


class RulesTests(SynchronousTestCase):
    def test_parties(self) -> None:
        """A party is those of its kind, and nobody else."""
        for party, inside, outside in (
            ("anonymous", Identity(), None),
            ("users", Identity("bob"), Identity()),
            ("user:ann", Identity("ann"), Identity("bob")),
            ("certificate:ci", Identity(certificates=frozenset({"x", "ci"})), Identity("ci")),
            ("network:10.0.0.0/8", Identity(address="10.9.9.9"), Identity(address="11.0.0.1")),
            ("network:10.0.0.0/8", Identity(address="::ffff:10.9.9.9"), Identity(address="")),
            ("network:fd00::/8", Identity(address="fd00::1"), Identity(address="10.0.0.1")),
        ):
            by = rules(RuleConfig(("*",), pull=(Principal.parse(party),)))
            self.assertEqual(allowed(by, inside, hosted("a")), ["pull"], party)
            if outside is not None:
                self.assertEqual(allowed(by, outside, hosted("a")), [], party)

    def test_who_may(self) -> None:
        """Who may do what is what the first rule that matches says, and nobody where none does."""
        by = rules(RuleConfig(("team/*",), pull=(Principal("users"),), push=(Principal("user", "ann"),)))
        self.assertEqual({"users", "user:ann"}, set(map(str, by.parties(Action.PULL, hosted("team/a")))))
        self.assertEqual({"user:ann"}, set(map(str, by.parties(Action.PUSH, hosted("team/a")))))
        for action, source in ((Action.DELETE, hosted("team/a")), (Action.PULL, hub("team/a"))):
            self.assertEqual(frozenset(), by.parties(action, source))

    def test_changing_needs_reading(self) -> None:
        """Whoever may push or delete may pull, and no more than that."""
        by = rules(RuleConfig(("*",), push=(Principal("user", "ann"),), delete=(Principal("user", "bob"),)))
        self.assertEqual(allowed(by, Identity("ann"), hosted("a")), ["pull", "push"])
        self.assertEqual(allowed(by, Identity("bob"), hosted("a")), ["pull", "delete"])

    def test_upstreams_are_named(self) -> None:
        """A pattern of hosted repositories does not mean those that an upstream calls the same."""
        by = rules(RuleConfig(("team/*",), pull=(Principal("anonymous"),)))
        self.assertEqual(allowed(by, Identity(), hosted("team/a")), ["pull"])
        self.assertEqual(allowed(by, Identity(), hub("team/a")), [])
        by = rules(RuleConfig(("docker.io/library/*",), pull=(Principal("anonymous"),)))
        self.assertEqual(allowed(by, Identity(), hub("library/a")), ["pull"])

    def test_without_access(self) -> None:
        """Unconfigured, everybody may pull, and only this host may push and delete."""
        by = Rules.of(None)
        self.assertEqual(allowed(by, Identity(address="10.0.0.1"), hosted("a")), ["pull"])
        self.assertEqual(allowed(by, Identity(), hosted("a")), ["pull"])
        for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
            self.assertEqual(allowed(by, Identity(address=address), hosted("a")), ["pull", "push", "delete"])

    @given(rules_of, identities, sources)
    def test_first_decides(
        self, configs: list[RuleConfig], identity: Identity, source: RepositoryKey
    ) -> None:
        """The first rule that matches decides as if it were the only one; without one nothing is allowed."""
        everybody = (Principal("anonymous"),)
        matching = [
            config
            for config in configs
            if allowed(rules(RuleConfig(config.repositories, pull=everybody)), identity, source)
        ]
        self.assertEqual(
            allowed(rules(*configs), identity, source), allowed(rules(*matching[:1]), identity, source)
        )
        if not matching:
            self.assertEqual(allowed(rules(*configs), identity, source), [])

    @given(rules_of, identities, actions, sources)
    def test_logging_in_takes_nothing(
        self, configs: list[RuleConfig], identity: Identity, action: Action, source: RepositoryKey
    ) -> None:
        """What somebody may do unknown they may do as any user."""
        by = rules(*configs)
        if by.allows(identity.without_user, action, source):
            self.assertTrue(by.allows(identity, action, source))
