"""Which upstream and which repository a request means (contract.md, "Which upstream").

`?ns=` decides. Without it a prefix before `/v2/` does, then the first component of the repository
where that is a prefix, then whether the repository is hosted, then the listener's own upstream. With
`ns` first, `/v2/quay/x?ns=docker.io` can never be answered by quay.io, whatever the prefixes are called.
"""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

import attrs

from mirrord.oci.errors import Denied, NameUnknown
from mirrord.oci.names import DOCKER_HUB, HOSTED, RepositoryKey, RepositoryName, canonical_registry
from mirrord.oci.routes import CatalogRoute, Ping, Target


@attrs.frozen
class UpstreamRoute:
    """An upstream as routing sees it: its name, its prefix, and which repositories it may be asked for."""

    name: str
    prefix: str | None = None
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()

    def is_allowed(self, repository: RepositoryName) -> bool:
        """Whether the patterns let this repository be mirrored; deny wins."""

        def is_in(patterns: tuple[str, ...]) -> bool:
            return any(fnmatchcase(repository.name, pattern) for pattern in patterns)

        return is_in(self.allow) and not is_in(self.deny)


@attrs.frozen
class Router:
    """The configured upstreams, by name and by prefix."""

    _by_name: dict[str, UpstreamRoute]
    _by_prefix: dict[str, UpstreamRoute]
    _is_hosted: Callable[[RepositoryName], bool]

    @classmethod
    def of(
        cls, origins: Iterable[UpstreamRoute], is_hosted: Callable[[RepositoryName], bool] = lambda _: False
    ) -> "Router":
        """Sources of these upstreams, and hosted ones; the configuration sees to it that no names clash."""
        by_name = {origin.name: origin for origin in origins}
        by_prefix = {origin.prefix: origin for origin in by_name.values() if origin.prefix}
        return cls(by_name, by_prefix, is_hosted)

    def locate(self, target: Target, default: str) -> RepositoryKey:
        """The source of the repository in `target`, on a listener whose own upstream is `default`.

        Raises:
            NameUnknown: No upstream is called so.
            Denied: The configuration does not let this repository be mirrored.
        """
        if isinstance(target.route, Ping | CatalogRoute):
            raise NameUnknown("the path names no repository")
        repository = target.route.repository
        origin = self._said(target)
        is_prefixed = target.prefix is not None
        if target.prefix is None:
            origin, repository, is_prefixed = self._inside(origin, repository)
        if origin is None:
            if self._is_hosted(repository):
                return RepositoryKey(HOSTED, repository)
            origin = self._by_name[default]
        if is_prefixed:
            repository = _official(origin, repository)
        if not origin.is_allowed(repository):
            raise Denied(f"this mirror is not configured to mirror {origin.name}/{repository}")
        return RepositoryKey(origin.name, repository)

    def knows(self, namespace: str) -> bool:
        """Whether an upstream is called so."""
        return canonical_registry(namespace.lower()) in self._by_name

    def upstream_of(self, target: Target) -> str | None:
        """The upstream that `target` names by `ns` or before `/v2/`; None where it names none.

        Raises:
            NameUnknown: No upstream is called so.
        """
        origin = self._said(target)
        return origin.name if origin else None

    def origins(self) -> Iterable[UpstreamRoute]:
        """All upstreams, in the order of the configuration."""
        return self._by_name.values()

    def resolve_scope(self, repository: RepositoryName) -> Iterator[RepositoryKey]:
        """Every source that a client may call so in a token's scope, which has neither `ns` nor a path."""
        if self._is_hosted(repository):
            yield RepositoryKey(HOSTED, repository)
        for origin in self._by_name.values():
            for name in {repository, _official(origin, repository)}:
                yield RepositoryKey(origin.name, name)
        led, rest, is_prefixed = self._inside(None, repository)
        if led is not None and is_prefixed:
            yield RepositoryKey(led.name, _official(led, rest))

    def _said(self, target: Target) -> UpstreamRoute | None:
        """The upstream that stands outside the repository's name."""
        led = None
        if target.prefix is not None:
            led = self._by_prefix.get(target.prefix)
            if led is None:
                raise NameUnknown("no upstream has this prefix", detail=target.prefix[:256])
        if target.namespace is None:
            return led
        named = self._by_name.get(canonical_registry(target.namespace.lower()))
        if named is None:
            raise NameUnknown("this mirror does not know that registry", detail=target.namespace[:256])
        if led is not None and led is not named:
            raise NameUnknown("the path's prefix and ns mean different upstreams")
        return named

    def _inside(
        self, said: UpstreamRoute | None, repository: RepositoryName
    ) -> tuple[UpstreamRoute | None, RepositoryName, bool]:
        """Strip a prefix inside the repository's name, if it does not contradict what was said outside."""
        led = self._by_prefix.get(repository.name.partition("/")[0])
        if led is None or led.prefix is None or said not in (None, led):
            return said, repository, False
        rest = repository.without_prefix(led.prefix)
        return (said, repository, False) if rest is None else (led, rest, True)


def _official(origin: UpstreamRoute, repository: RepositoryName) -> RepositoryName:
    """Docker Hub's official images live under `library/`; people who type a prefix leave it out."""
    if origin.name == DOCKER_HUB and "/" not in repository.name:
        return RepositoryName(f"library/{repository.name}")
    return repository
