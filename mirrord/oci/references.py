"""Image references: what people type (`ubuntu`, `ghcr.io/foo/bar:1.2`), read as docker reads it.

What stands before the first slash is a registry if it could be a host: it holds a dot or a port, or is
`localhost`. Else the registry is Docker Hub, whose official images live under `library/`. None of this
is in the specification, which knows no registry in a name; it is what every client does
(github.com/distribution/reference, normalize.go).
"""

import re
from collections.abc import Callable
from typing import Self

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.errors import NameInvalid
from mirrord.oci.names import (
    DOCKER_HUB,
    HOSTED,
    Reference,
    RepositoryKey,
    RepositoryName,
    Tag,
    canonical_registry,
)

LATEST = Tag("latest")

_OFFICIAL = "library"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::[0-9]{{1,5}})?", re.ASCII)
_BARE_DIGEST = re.compile(r"sha(?:256|512):[a-f0-9]{64,}", re.ASCII)


@attrs.frozen(order=True, cache_hash=True)
class ImageReference:
    """A repository of a registry, and perhaps what is meant of it: a tag, a digest, or both.

    The registry of what is hosted here is HOSTED, which nobody types: its repositories have no other name.
    """

    registry: str
    repository: RepositoryName
    tag: Tag | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, is_hosted: Callable[[RepositoryName], bool] = lambda _: False) -> Self:
        """Read a reference as docker writes it; the host of a registry may be in any case.

        `is_hosted` says which repositories are meant to be ours, where no registry is named.

        Raises:
            NameInvalid: The registry or the repository cannot be one; uppercase is no name.
            TagInvalid, DigestInvalid: What follows it is not what it looks like.
        """
        if _BARE_DIGEST.fullmatch(text):
            raise NameInvalid("a digest alone names no repository; write repository@digest", detail=text)
        rest, at, digest = text.partition("@")
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            name, colon, tag = rest, "", ""
        registry, repository = _read(name)
        if not _is_host(name) and RepositoryName.is_one(name) and is_hosted(RepositoryName(name)):
            registry, repository = HOSTED, RepositoryName(name)
        return cls(
            registry,
            repository,
            Tag.parse(tag) if colon else None,
            Digest.parse(digest) if at else None,
        )

    @classmethod
    def of(cls, source: RepositoryKey) -> Self:
        """The repository of a source, all of it."""
        return cls(source.upstream, source.repository)

    @property
    def is_hosted(self) -> bool:
        """Whether the repository is hosted here."""
        return self.registry == HOSTED

    @property
    def named(self) -> Reference:
        """What is meant of the repository: the digest, else the tag, else the tag `latest`."""
        return self.digest or self.tag or LATEST

    @property
    def familiar_name(self) -> str:
        """The repository, as short as docker writes it."""
        if self.is_hosted:
            return str(self.repository)
        if self.registry != DOCKER_HUB:
            return f"{self.registry}/{self.repository}"
        rest = self.repository.without_prefix(_OFFICIAL)
        is_short = rest is not None and "/" not in rest.name
        return str(rest) if is_short else str(self.repository)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.familiar_name}{tag}{digest}"


def _is_host(name: str) -> bool:
    """Whether the name begins with a registry."""
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first.lower() == "localhost")


def _read(name: str) -> tuple[str, RepositoryName]:
    """The registry and the repository of a name."""
    first, _, rest = name.partition("/")
    host = first.lower()
    if not _is_host(name):
        registry, path = DOCKER_HUB, name
    elif _REGISTRY.fullmatch(host):
        registry, path = canonical_registry(host), rest
    else:
        raise NameInvalid("this is no host of a registry", detail=first[:256])
    if path != path.lower():
        raise NameInvalid("the name of a repository is lowercase", detail=name[:256])
    if registry == DOCKER_HUB and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    return registry, RepositoryName.parse(path)
