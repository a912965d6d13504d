"""Access rules: which principals may do what in which repository. Pure.

The first rule that matches a repository decides, as in a firewall: rules are read from the top until one
matches, and the rest are ignored. (With the union of all matching rules a narrow rule could forbid nothing;
which of two patterns is the more specific is a matter of opinion.) What no rule matches is denied.

A rule matches a mirrored repository under its upstream's name, whatever name the client used: `team/*`
never means a team at an upstream, nor `docker.io/*` a hosted repository (config/rule_pattern.py).
"""

from collections.abc import Collection
from enum import Enum
from functools import lru_cache

import attrs

from mirrord.config.access import Principal, RuleConfig
from mirrord.config.addresses import parse_address
from mirrord.config.config import Config
from mirrord.config.rule_pattern import RulePattern
from mirrord.oci.names import RepositoryKey


class Action(Enum):
    """An action in a repository; values are those of a token's scope."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@attrs.frozen(kw_only=True)
class ClientIdentity:
    """The client of a request as presented by its head and its connection, before authentication.

    `origin` is the scheme and host at which the client reached this registry, `certificates` are the names
    in its certificate; `address` is empty where it cannot be trusted.
    """

    origin: str = ""
    address: str = ""
    certificates: frozenset[str] = frozenset()
    authorization: str | None = attrs.field(default=None, repr=False)


_ANONYMOUS = Principal("anonymous")
_LOOPBACK = (Principal("network", "127.0.0.0/8"), Principal("network", "::1/128"))

_DENIED = "the access rules of this registry do not allow this"
_DENIED_WITHOUT_RULES = (
    "without [access] in its configuration mirrord allows this to clients on its own host only, "
    "and only with push_from_loopback = true in [hosted]"
)

_parse_cached = lru_cache(maxsize=1024)(parse_address)


@attrs.frozen
class _Rule:
    """Patterns of repositories, and for each action the principals that it is allowed to."""

    patterns: tuple[RulePattern, ...]
    principals: dict[Action, frozenset[Principal]]

    @classmethod
    def of(cls, config: RuleConfig, upstreams: Collection[str] = ()) -> "_Rule":
        """Compile a rule; pushing and deleting imply pulling, since every client reads before it pushes."""
        writers = frozenset(config.push + config.delete)
        return cls(
            tuple(RulePattern.parse(text, upstreams) for text in config.repositories),
            {
                Action.PULL: frozenset(config.pull) | writers,
                Action.PUSH: frozenset(config.push),
                Action.DELETE: frozenset(config.delete),
            },
        )


@attrs.frozen
class Rules:
    """The rules in their order; `refusal` is the message of a response that denies a request."""

    _rules: tuple[_Rule, ...]
    refusal: str = _DENIED

    @classmethod
    def of(cls, config: Config) -> "Rules":
        """Compile the configured rules.

        Without any, all clients may pull, and with `push_from_loopback` those on this host push and delete.
        """
        if config.access is not None:
            upstreams = {upstream.name for upstream in config.upstream}
            return cls(tuple(_Rule.of(rule, upstreams) for rule in config.access.rules))
        writers = _LOOPBACK if config.hosted.push_from_loopback else ()
        rule = RuleConfig(repositories=("*",), pull=(_ANONYMOUS,), push=writers, delete=writers)
        return cls((_Rule.of(rule),), _DENIED_WITHOUT_RULES)

    def allows(
        self, action: Action, key: RepositoryKey, identity: ClientIdentity, user: str | None = None
    ) -> bool:
        """Return whether a client, logged in as `user` or anonymous, may do this in the repository."""
        principals = self.principals(action, key)
        return _ANONYMOUS in principals or any(_includes(one, identity, user) for one in principals)

    def principals(self, action: Action, key: RepositoryKey) -> frozenset[Principal]:
        """Return the principals that may do this in the repository."""
        for rule in self._rules:
            if any(pattern.matches(key) for pattern in rule.patterns):
                return rule.principals[action]
        return frozenset()


def _includes(principal: Principal, identity: ClientIdentity, user: str | None) -> bool:
    match principal.kind:
        case "users":
            return user is not None
        case "user":
            return user == principal.name
        case "certificate":
            return principal.name in identity.certificates
        case "network":
            address = _parse_cached(identity.address)
            return address is not None and address in principal.network
    return False
