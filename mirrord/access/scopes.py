"""Scopes: what a token is asked for, and is good for (distribution's token authentication specification).

A scope names a repository as the client does in its path. Which repository of which upstream that is
the token service cannot know, for neither `ns` nor a prefix before `/v2/` is in it.
"""

from collections.abc import Iterable
from typing import Any

import attrs

from mirrord.access.rules import Action
from mirrord.oci.errors import NameInvalid
from mirrord.oci.names import RepositoryName

MAX_SCOPES = 64

_ALL = "*"
"""skopeo asks so for the right to delete."""


@attrs.frozen
class Scope:
    """Actions in the repository that clients call `name`."""

    name: RepositoryName
    actions: frozenset[Action]

    def __str__(self) -> str:
        return f"repository:{self.name}:{','.join(self._words())}"

    def claim(self) -> dict[str, Any]:
        """How a token says it."""
        return {"type": "repository", "name": str(self.name), "actions": self._words()}

    def _words(self) -> list[str]:
        return [action.value for action in Action if action in self.actions]


def read_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes that are asked for; a parameter may hold several. What cannot be granted is left out."""
    words = [word for text in texts for word in text.split()][:MAX_SCOPES]
    return tuple(filter(None, map(_read, words)))


def _read(word: str) -> Scope | None:
    kind, _, rest = word.partition(":")
    name, _, listed = rest.rpartition(":")
    if kind != "repository":
        return None
    try:
        repository = RepositoryName.parse(name)
    except NameInvalid:
        return None
    asked = set(listed.split(","))
    actions = frozenset(action for action in Action if {_ALL, action.value} & asked)
    return Scope(repository, actions) if actions else None
