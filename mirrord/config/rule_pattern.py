"""RulePattern: the repositories that a pattern of an access rule means.

A repository is identified by its registry, an upstream or this one, and by its name; the name of a hosted
repository may look like that of a mirrored one, `docker.io/x`. So a pattern is parsed into both parts, and
compared with both. (If the rules matched one text, `docker.io/x`, a rule about Docker Hub would open or close
a hosted repository of that name.) The part before the first slash is compared literally with the names of
the upstreams: with wildcards in it, one pattern could mean hosted repositories and several upstreams.
"""

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Self

import attrs

from mirrord.oci.names import HOSTED, RepositoryKey, canonical_registry

_EVERYTHING = "*"

_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
"""A character of a shell pattern, literal or not, or a set of characters in brackets."""


@attrs.frozen
class RulePattern:
    """A shell pattern of the names of one registry's repositories; `registry` is None for all registries."""

    registry: str | None
    names: str

    @classmethod
    def parse(cls, text: str, upstreams: Collection[str]) -> Self:
        """Parse `UPSTREAM/…` for one of these upstreams, `hosted/…`, `*`, or a pattern of hosted names."""
        if text == _EVERYTHING:
            return cls(None, text)
        first, slash, rest = text.partition("/")
        registry = canonical_registry(first)
        if slash and (registry == HOSTED or registry in upstreams):
            return cls(registry, rest)
        return cls(HOSTED, text)

    def matches(self, key: RepositoryKey) -> bool:
        """Return whether the pattern means this repository."""
        return self.registry in (None, key.upstream) and fnmatchcase(key.repository.name, self.names)

    def covers(self, other: "RulePattern") -> bool:
        """Return whether this pattern certainly means every repository that the other one does.

        A pattern whose only wildcard is `*` covers every pattern that it matches as if that were a name.
        """
        is_simple = not set("?[") & set(self.names)
        name = "".join(token if len(token) == 1 else "?" for token in _TOKEN.findall(other.names))
        return is_simple and self.registry in (None, other.registry) and fnmatchcase(name, self.names)


def can_overlap(one: str, other: str) -> bool:
    """Return whether some name may match both shell patterns; two sets in brackets count as overlapping."""
    first, second = _TOKEN.findall(one), _TOKEN.findall(other)
    ends = len(first), len(second)
    seen = {(0, 0)}
    waiting = [(0, 0)]
    while waiting:
        at, other_at = waiting.pop()
        if (at, other_at) == ends:
            return True
        token = first[at] if at < ends[0] else ""
        other_token = second[other_at] if other_at < ends[1] else ""
        following = []
        if "*" in (token, other_token):
            following += [(at + 1, other_at)] if token else []
            following += [(at, other_at + 1)] if other_token else []
        elif token and other_token and _can_be_equal(token, other_token):
            following.append((at + 1, other_at + 1))
        waiting += [each for each in following if each not in seen]
        seen.update(following)
    return False


def _can_be_equal(token: str, other: str) -> bool:
    if "?" in (token, other) or (len(token) > 1 and len(other) > 1):
        return True
    return fnmatchcase(token, other) if len(other) > 1 else fnmatchcase(other, token)
