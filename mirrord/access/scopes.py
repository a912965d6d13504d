"""Token scopes: actions in a repository (distribution's token authentication specification).

A scope names a repository as the client does in its path. The token service cannot know which repository of
which upstream is meant, since a scope contains neither `ns` nor a prefix before `/v2/`.
"""

from collections.abc import Iterable
from typing import Any

import attrs

from mirrord.access.rules import Action
from mirrord.oci.errors import NameInvalid
from mirrord.oci.names import RepositoryKey, RepositoryName

MAX_SCOPES = 64

_ALL = "*"
"""All actions; skopeo requests this in order to delete."""


@attrs.frozen
class Scope:
    """Actions in the repository that a client calls `name`.

    `registries` are the upstreams, and HOSTED, where they are granted; a request cannot choose among these.
    """

    name: RepositoryName
    actions: frozenset[Action]
    registries: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"repository:{self.name}:{','.join(self._action_names())}"

    def claim(self) -> dict[str, Any]:
        """Return the scope as an entry of a token's `access` claim."""
        return {"type": "repository", "name": str(self.name), "actions": self._action_names()}

    def covers(self, name: RepositoryName, action: Action, key: RepositoryKey) -> bool:
        """Return whether this action is granted in a repository, which the client calls `name`."""
        return self.name == name and action in self.actions and key.upstream in self.registries

    def _action_names(self) -> list[str]:
        return [action.value for action in Action if action in self.actions]


def read_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Parse the scopes of a request; a parameter may list several. What cannot be granted is ignored."""
    requested = [scope for text in texts for scope in text.split()][:MAX_SCOPES]
    return tuple(filter(None, map(_read_scope, requested)))


def _read_scope(text: str) -> Scope | None:
    kind, _, rest = text.partition(":")
    name, _, listed = rest.rpartition(":")
    if kind != "repository":
        return None
    try:
        repository = RepositoryName.parse(name)
    except NameInvalid:
        return None
    requested = set(listed.split(","))
    actions = frozenset(action for action in Action if {_ALL, action.value} & requested)
    return Scope(repository, actions) if actions else None
