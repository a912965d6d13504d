"""Facts: the changes of hosted repositories, as the journal and its snapshots record them.

Only what cannot be derived is recorded: that a repository has a blob or a manifest, what a tag names, and
that this ended. What a manifest references, its subject and its annotations are read from its file. So a
fact has a few hundred bytes, whatever the size of the manifest, and there is one source for the rest.

A fact is a JSON array: a word for its kind, then the fields of its class, in order. Times are service time
(`touched`) or wall clock (`linked_at`, `tagged_at`), as in the tables (hosted_rows.py).
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias


class BlobLinked(NamedTuple):
    """A repository has a blob: it was pushed, or mounted."""

    repository: str
    digest: str
    size: int
    linked_at: float
    touched: float


class ManifestLinked(NamedTuple):
    """A repository has a manifest."""

    repository: str
    digest: str
    media_type: str
    size: int
    linked_at: float
    touched: float


class Tagged(NamedTuple):
    """A tag names a manifest of its repository."""

    repository: str
    tag: str
    digest: str
    tagged_at: float
    touched: float


class Untagged(NamedTuple):
    """A tag is deleted; the age of the manifest that it named starts at `touched`."""

    repository: str
    tag: str
    touched: float


class Unlinked(NamedTuple):
    """A blob or a manifest is deleted from a repository, with the tags that named it."""

    repository: str
    digest: str
    is_manifest: bool


class Dropped(NamedTuple):
    """A repository is deleted with all that it had."""

    repository: str


Fact: TypeAlias = BlobLinked | ManifestLinked | Tagged | Untagged | Unlinked | Dropped

_KINDS: dict[str, type[Fact]] = {
    "blob": BlobLinked,
    "manifest": ManifestLinked,
    "tag": Tagged,
    "untag": Untagged,
    "unlink": Unlinked,
    "drop": Dropped,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}


def to_json(facts: Iterable[Fact]) -> str:
    """Return facts as a JSON array, in ASCII."""
    return json.dumps([(_WORDS[type(fact)], *fact) for fact in facts], separators=(",", ":"))


def of_json(arrays: Sequence[Sequence[Any]]) -> list[Fact]:
    """Return the facts of a parsed JSON array.

    Raises:
        ValueError: There is an unknown kind of fact, or one with other fields.
    """
    try:
        return [_KINDS[word](*fields) for word, *fields in arrays]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a fact of hosted repositories: {error}") from error
