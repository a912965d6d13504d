"""Which repositories are hosted: those whose names match the patterns of `[hosted]`."""

from fnmatch import fnmatchcase

import attrs

from mirrord.oci.names import RepositoryName


@attrs.frozen
class HostedNames:
    """The names that are ours to give; without patterns there are none, and everything is mirrored."""

    _patterns: tuple[str, ...] = ()

    def has(self, repository: RepositoryName) -> bool:
        """Whether a repository of this name is hosted, as far as nothing in the request names an upstream."""
        return any(fnmatchcase(repository.name, pattern) for pattern in self._patterns)
