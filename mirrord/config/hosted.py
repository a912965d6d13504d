"""What an operator may decide of hosted repositories, and of who may do what: the tables of both.

docs/configuration.md says what each key is for.
"""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Self

import attrs

from mirrord.config.schema import Word, WrongKey
from mirrord.config.types import (
    FilePath,
    Interval,
    Network,
    Origin,
    Pattern,
    PositiveBytes,
    Seconds,
    Timeout,
    read_network,
    read_username,
)

_TAG_PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]+", re.ASCII)


def read_tag_pattern(text: str) -> str:
    """A shell pattern that some tag can match."""
    if _TAG_PATTERN.fullmatch(text) is None:
        raise ValueError("no tag can match this")
    return text


TagPattern = Annotated[str, Word(read_tag_pattern)]


@attrs.frozen
class RetentionConfig:
    """What of some hosted repositories need not be kept for ever; None: no reason to let anything go.

    `newest` and `older_than` are of the tags that match `tags`, `untagged_for` of manifests.
    """

    repositories: tuple[Pattern, ...] = ("*",)
    untagged_for: Interval | None = None
    newest: int | None = None
    tags: TagPattern = "*"
    older_than: Interval | None = None

    def __attrs_post_init__(self) -> None:
        if self.untagged_for is None and self.newest is None and self.older_than is None:
            raise WrongKey("untagged_for", "missing; this, newest or older_than says what may go")


@attrs.frozen
class HostedConfig:
    """Which repositories are pushed to us, and how. Without any, all that is asked for is mirrored.

    `grace` is for blobs that no manifest names yet; `upload_timeout` for a client that is silent.
    """

    enabled: bool = True
    repositories: tuple[Pattern, ...] = ()
    delete: bool = True
    grace: Seconds = 3600.0
    max_upload_size: PositiveBytes | None = None
    upload_timeout: Timeout = 60.0
    keep: tuple[RetentionConfig, ...] = ()


_EVERYBODY = "anonymous"
_USERS = "users"
_NAMED = ("user", "certificate", "network")


@attrs.frozen
class Principal:
    """Some of those who ask: `kind` is one of anonymous, users, user, certificate and network.

    All but the first two have a `name`, which of a network is its address and mask.
    """

    kind: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a party, such as `users`, `user:ann` or `network:10.0.0.0/8`.

        Raises:
            ValueError: The text is not one.
        """
        kind, colon, name = text.partition(":")
        if text in {_EVERYBODY, _USERS}:
            return cls(kind)
        if kind not in _NAMED or not colon:
            raise ValueError(
                "one of anonymous, users, user:NAME, certificate:NAME and network:ADDRESS/MASK is needed"
            )
        if kind == "network":
            read_network(name)
        elif kind == "user":
            read_username(name)
        elif not name or not name.isprintable():
            raise ValueError("a name that stands in certificates is needed")
        return cls(kind, name)

    @property
    def network(self) -> Network:
        """The network that this party is."""
        return read_network(self.name)

    @property
    def needs_password(self) -> bool:
        """Whether one belongs to it by a password."""
        return self.kind in {_USERS, "user"}

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


Principals = tuple[Annotated[Principal, Word(Principal.parse)], ...]


@attrs.frozen
class RuleConfig:
    """Who may do what in the repositories that match one of the patterns."""

    repositories: tuple[Pattern, ...]
    pull: Principals = ()
    push: Principals = ()
    delete: Principals = ()

    def __attrs_post_init__(self) -> None:
        if not self.repositories:
            raise WrongKey("repositories", "at least one pattern is needed")

    @property
    def parties(self) -> Principals:
        """All that it names."""
        return self.pull + self.push + self.delete


@attrs.frozen
class AccessConfig:
    """Who the users are, and who may do what: the first rule that matches a repository says it.

    `realm` is the origin at which clients find the token service, None where it is that of the request.
    """

    htpasswd: FilePath | None = None
    realm: Origin | None = None
    rules: tuple[RuleConfig, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not self.rules:
            raise WrongKey("rules", "at least one is needed: what no rule allows is refused")
        for index, rule in enumerate(self.rules):
            if self.htpasswd is None and any(party.needs_password for party in rule.parties):
                raise WrongKey("htpasswd", f"missing; rules[{index}] is about users")
        _check_reach(self.rules)


def _check_reach(rules: tuple[RuleConfig, ...]) -> None:
    """Refuse a rule that is never the first to match: whoever wrote it believes in it.

    A pattern whose only wildcard is `*` covers every pattern that it matches as if that were a name.
    """
    covering: list[str] = []
    for index, rule in enumerate(rules):
        if all(any(fnmatchcase(pattern, before) for before in covering) for pattern in rule.repositories):
            raise WrongKey("rules", f"rules[{index}] decides nothing: those before it match all that it does")
        covering += [pattern for pattern in rule.repositories if not set("?[") & set(pattern)]
