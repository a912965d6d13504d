"""Names of repositories and tags, and references (distribution-spec, "Pulling manifests")."""

import re
from typing import Self

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.errors import NameInvalid, TagInvalid

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)

_MAX_NAME_LENGTH = 255
"""Many clients limit host, slash and name to 255 characters together (distribution-spec)."""

DOCKER_HUB = "docker.io"

HOSTED = "hosted"
"""The upstream name of a hosted repository, in keys, metrics and logs."""

_HOSTS_OF_DOCKER_HUB = frozenset({"registry-1.docker.io", "index.docker.io"})


def canonical_registry(name: str) -> str:
    """Return the canonical name of a registry; clients also name Docker Hub by the hosts that serve it."""
    return DOCKER_HUB if name in _HOSTS_OF_DOCKER_HUB else name


@attrs.frozen(order=True, cache_hash=True)
class RepositoryName:
    """A repository's name, such as `library/ubuntu`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a repository name.

        Raises:
            NameInvalid: The text is not a repository name.
        """
        if not cls.is_one(text):
            raise NameInvalid("invalid repository name", detail=text[:256])
        return cls(text)

    @classmethod
    def is_one(cls, text: str) -> bool:
        """Return whether the text is a valid repository name."""
        return len(text) <= _MAX_NAME_LENGTH and _REPOSITORY.fullmatch(text) is not None

    def without_prefix(self, prefix: str) -> "RepositoryName | None":
        """Return the name without the first component `prefix`; None if it has none, or no other."""
        first, _, rest = self.name.partition("/")
        return RepositoryName(rest) if first == prefix and rest else None

    def __str__(self) -> str:
        return self.name


@attrs.frozen(order=True, cache_hash=True)
class Tag:
    """A tag, such as `24.04`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a tag.

        Raises:
            TagInvalid: The text is not a tag.
        """
        if not cls.is_one(text):
            raise TagInvalid("invalid tag", detail=text[:256])
        return cls(text)

    @classmethod
    def is_one(cls, text: str) -> bool:
        """Return whether the text is a valid tag."""
        return _TAG.fullmatch(text) is not None

    def __str__(self) -> str:
        return self.name


Reference = Tag | Digest
"""The name of a manifest in its repository."""


def parse_reference(text: str) -> Reference:
    """Parse a reference: a digest if it contains a colon, else a tag.

    Raises:
        DigestInvalid: It contains a colon and is not a digest.
        TagInvalid: It contains no colon and is not a tag.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)


@attrs.frozen(order=True, cache_hash=True)
class RepositoryKey:
    """A repository of one upstream, or, with the upstream HOSTED, a hosted one.

    Links, tags and negative responses are stored under this key; content itself is stored under its
    digest alone (docs/architecture.md, invariants 1 and 7).
    """

    upstream: str
    repository: RepositoryName

    @classmethod
    def hosted(cls, name: RepositoryName) -> Self:
        """Return the key of the hosted repository of this name."""
        return cls(HOSTED, name)

    @property
    def is_hosted(self) -> bool:
        """Whether this is a hosted repository."""
        return self.upstream == HOSTED

    def __str__(self) -> str:
        return f"{self.upstream}/{self.repository}"
