"""Rules: who may do what in which repository. Pure.

The first rule that matches a repository says everything about it, as in a firewall: rules are read
from the top until one matches, and what stands below is then not looked at. (The union of all that
match would make a narrow rule unable to forbid; the most specific pattern is a question that people
answer differently.) What no rule matches nobody may do.

A rule sees a mirrored repository under its upstream's name, whatever the client called it: so
`team/*` can never mean a team at an upstream.
"""

from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache

import attrs

from mirrord.config.addresses import parse_address
from mirrord.config.hosted import AccessConfig, Principal, RuleConfig
from mirrord.oci.names import RepositoryKey


class Action(Enum):
    """What can be done in a repository; values are those of a token's scope."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@attrs.frozen
class Identity:
    """Who asks: as which user, with which names in its certificate, from where."""

    user: str | None = None
    certificates: frozenset[str] = frozenset()
    address: str = ""

    @property
    def without_user(self) -> "Identity":
        """The same for somebody who has not said who they are."""
        return self if self.user is None else attrs.evolve(self, user=None)


_NOBODY: frozenset[Principal] = frozenset()
_ANYBODY = Principal("anonymous")

_parse_cached = lru_cache(maxsize=1024)(parse_address)


@attrs.frozen
class _Rule:
    """Patterns, and for each action the parties that may do it."""

    patterns: tuple[str, ...]
    parties: dict[Action, frozenset[Principal]]

    @classmethod
    def of(cls, config: RuleConfig) -> "_Rule":
        """Whoever may change a repository may read it: no client pushes without looking first."""
        changing = frozenset(config.push + config.delete)
        return cls(
            config.repositories,
            {
                Action.PULL: frozenset(config.pull) | changing,
                Action.PUSH: frozenset(config.push),
                Action.DELETE: frozenset(config.delete),
            },
        )

    def matches(self, name: str) -> bool:
        """Whether this rule is about the repository of that name."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)


@attrs.frozen
class Rules:
    """The rules, from the top; `refusal` is what is said to whom they do not let."""

    _rules: tuple[_Rule, ...]
    refusal: str = "you may not do this here"

    @classmethod
    def of(cls, access: AccessConfig | None) -> "Rules":
        """The configured rules; without any, everybody may pull and this host's clients may do the rest."""
        if access is not None:
            return cls(tuple(map(_Rule.of, access.rules)))
        here = (Principal("network", "127.0.0.0/8"), Principal("network", "::1/128"))
        rule = RuleConfig(("*",), pull=(_ANYBODY,), push=here, delete=here)
        return cls(
            (_Rule.of(rule),), "without [access] in its configuration mirrord lets only its own host do this"
        )

    def allows(self, identity: Identity, action: Action, source: RepositoryKey) -> bool:
        """Whether this may be done in the repository."""
        parties = self.parties(action, source)
        return _ANYBODY in parties or any(_is_of(identity, party) for party in parties)

    def parties(self, action: Action, source: RepositoryKey) -> frozenset[Principal]:
        """Who may do this in the repository."""
        name = source.rule_name
        for rule in self._rules:
            if rule.matches(name):
                return rule.parties[action]
        return _NOBODY


def _is_of(identity: Identity, party: Principal) -> bool:
    match party.kind:
        case "users":
            return identity.user is not None
        case "user":
            return identity.user == party.name
        case "certificate":
            return party.name in identity.certificates
        case "network":
            address = _parse_cached(identity.address)
            return address is not None and address in party.network
    return False
