"""The `[access]` table: the users, and the rules that grant access to repositories.

docs/configuration.md describes every key.
"""

from typing import Annotated, Self

import attrs

from mirrord.config.schema import InvalidKey, StringFormat
from mirrord.config.types import FilePath, Network, Origin, RulePatternText, parse_network, parse_username

_ANONYMOUS = "anonymous"
_USERS = "users"
_NAMED = ("user", "certificate", "network")


@attrs.frozen
class Principal:
    """A group of clients in a rule: `kind` is anonymous, users, user, certificate or network.

    The last three have a `name`; that of a network is its address and prefix length.
    """

    kind: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a principal, such as `users`, `user:ann` or `network:10.0.0.0/8`.

        Raises:
            ValueError: The text is not a principal.
        """
        kind, colon, name = text.partition(":")
        if text in {_ANONYMOUS, _USERS}:
            return cls(kind)
        if kind not in _NAMED or not colon:
            raise ValueError(
                "must be anonymous, users, user:NAME, certificate:NAME or network:ADDRESS/PREFIX"
            )
        if kind == "network":
            parse_network(name)
        elif kind == "user":
            parse_username(name)
        elif not name or not name.isprintable():
            raise ValueError("must be a name that a certificate can contain")
        return cls(kind, name)

    @property
    def network(self) -> Network:
        """The network of a principal of that kind."""
        return parse_network(self.name)

    @property
    def needs_password(self) -> bool:
        """Return whether clients authenticate as this principal with a password."""
        return self.kind in {_USERS, "user"}

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


Principals = tuple[Annotated[Principal, StringFormat(Principal.parse)], ...]


@attrs.frozen(kw_only=True)
class RuleConfig:
    """The principals that may pull, push and delete in the repositories that match a pattern.

    Which repositories a pattern means depends on the configured upstreams (rule_pattern.py).
    """

    repositories: tuple[RulePatternText, ...]
    pull: Principals = ()
    push: Principals = ()
    delete: Principals = ()

    def __attrs_post_init__(self) -> None:
        if not self.repositories:
            raise InvalidKey("repositories", "at least one pattern is needed")

    @property
    def principals(self) -> Principals:
        """All principals that the rule names."""
        return self.pull + self.push + self.delete


@attrs.frozen
class AccessConfig:
    """The users and the rules; the first rule that matches a repository decides.

    `realm` is the origin at which clients reach the token service; None: that of the request.
    """

    htpasswd: FilePath | None = None
    realm: Origin | None = None
    rules: tuple[RuleConfig, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not self.rules:
            raise InvalidKey("rules", "at least one is needed: what no rule allows is denied")
        for index, rule in enumerate(self.rules):
            if self.htpasswd is None and any(principal.needs_password for principal in rule.principals):
                raise InvalidKey("htpasswd", f"missing; rules[{index}] names users")
