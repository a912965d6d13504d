"""Image references as typed by people (`ubuntu`, `ghcr.io/foo/bar:1.2`), parsed as docker does.

The part before the first slash is a registry if it can be a host: it contains a dot or a port, or is
`localhost`. Otherwise the registry is Docker Hub, whose official images are under `library/`. None of
this is in the specification, where names contain no registry; it is what every client does
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


@attrs.frozen(kw_only=True, order=True, cache_hash=True)
class ImageReference:
    """A repository of a registry, optionally with a tag, a digest, or both.

    The registry of hosted repositories is HOSTED; it is never written, since their names contain no registry.
    """

    registry: str
    repository: RepositoryName
    tag: Tag | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, is_hosted: Callable[[RepositoryName], bool] = lambda _: False) -> Self:
        """Parse a reference as docker does; the host of a registry is case-insensitive.

        `is_hosted` returns whether a repository without a registry means a hosted one.

        Raises:
            NameInvalid: The registry or the repository is invalid; uppercase is not allowed.
            TagInvalid, DigestInvalid: The tag or the digest is invalid.
        """
        if _BARE_DIGEST.fullmatch(text):
            raise NameInvalid("a digest needs a repository: repository@digest", detail=text)
        rest, at, digest = text.partition("@")
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            name, colon, tag = rest, "", ""
        registry, repository = _parse_name(name)
        if not _is_host(name) and RepositoryName.is_one(name) and is_hosted(RepositoryName(name)):
            registry, repository = HOSTED, RepositoryName(name)
        return cls(
            registry=registry,
            repository=repository,
            tag=Tag.parse(tag) if colon else None,
            digest=Digest.parse(digest) if at else None,
        )

    @classmethod
    def of(cls, key: RepositoryKey) -> Self:
        """Return the reference of a whole repository."""
        return cls(registry=key.upstream, repository=key.repository)

    @property
    def key(self) -> RepositoryKey:
        """The key of the repository."""
        return RepositoryKey(self.registry, self.repository)

    @property
    def manifest_reference(self) -> Reference:
        """The digest, else the tag, else the tag `latest`."""
        return self.digest or self.tag or LATEST

    @property
    def familiar_name(self) -> str:
        """The name of the repository as docker shortens it, unless it would then name another registry."""
        if self.key.is_hosted:
            return str(self.repository)
        if self.registry != DOCKER_HUB or _is_host(str(self.repository)):
            return f"{self.registry}/{self.repository}"
        rest = self.repository.without_prefix(_OFFICIAL)
        is_short = rest is not None and "/" not in rest.name
        return str(rest) if is_short else str(self.repository)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        text = f"{self.familiar_name}{tag}{digest}"
        is_ambiguous = self.registry == DOCKER_HUB and _BARE_DIGEST.fullmatch(text)
        return f"{DOCKER_HUB}/{text}" if is_ambiguous else text


def _is_host(name: str) -> bool:
    """Return whether the name begins with a registry."""
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first.lower() == "localhost")


def _parse_name(name: str) -> tuple[str, RepositoryName]:
    """Return the registry and the repository of a name."""
    first, _, rest = name.partition("/")
    host = first.lower()
    if not _is_host(name):
        registry, path = DOCKER_HUB, name
    elif _REGISTRY.fullmatch(host):
        registry, path = canonical_registry(host), rest
    else:
        raise NameInvalid("invalid registry host", detail=first[:256])
    if path != path.lower():
        raise NameInvalid("repository names must be lowercase", detail=name[:256])
    if registry == DOCKER_HUB and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    return registry, RepositoryName.parse(path)
