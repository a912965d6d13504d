"""Meanings: which repositories a name in a token's scope can stand for."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

import attrs

from mirrord.access.ports import Names
from mirrord.oci.hosted import HOSTED
from mirrord.oci.names import Repository, Source


@attrs.frozen
class Meanings:
    """Names that are hosted by their patterns, and those that a mirror's clients use.

    A name may mean several repositories: `ns` or a prefix decides in a request, and is not in a scope.
    """

    _hosted: tuple[str, ...]
    _mirrored: Names

    def meanings(self, repository: Repository) -> Iterator[Source]:
        """Every source that a client may call so."""
        if any(fnmatchcase(repository.name, pattern) for pattern in self._hosted):
            yield Source(HOSTED, repository)
        yield from self._mirrored.meanings(repository)
