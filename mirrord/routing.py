"""Routing: find the repository of a request.

`?ns=` decides. Without it a prefix before `/v2/` does, then the first component of the repository's name if
that is a prefix, then whether the name is hosted, then the listener's own upstream. With `ns` first,
`/v2/quay/x?ns=docker.io` can never be answered by quay.io, whatever the prefixes are called.

This is the one place that knows both kinds of repositories; everything above works on the `Repository` it
returns.
"""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from heapq import merge

import attrs

from mirrord.oci.errors import Denied, NameUnknown
from mirrord.oci.names import DOCKER_HUB, RepositoryKey, RepositoryName, canonical_registry
from mirrord.oci.references import ImageReference
from mirrord.oci.routes import CatalogRoute, ManifestRoute, Ping, Target
from mirrord.repository import Repository

_MIRRORED_PAGE = 50
_HOSTED_PAGE = 100
"""Repositories read from the index at a time: a millisecond or two."""


@attrs.frozen
class UpstreamRoute:
    """An upstream as routing sees it: its name, its prefix, and the repositories it may serve."""

    name: str
    prefix: str | None = None
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()

    def is_allowed(self, name: RepositoryName) -> bool:
        """Return whether the patterns allow this repository to be mirrored; deny wins."""
        return _matches(name, self.allow) and not _matches(name, self.deny)


@attrs.frozen(kw_only=True)
class StoredRepositories:
    """The repositories in the store's index, in the order of their names.

    `of_upstream` returns the next `limit` names of an upstream after one, each with whether it has a stored
    manifest; `hosted` the next `limit` hosted names; `mirrored` iterates over the keys of all mirrored ones;
    `has_hosted` returns whether a hosted repository of that name exists.
    """

    of_upstream: Callable[[str, str, int], list[tuple[RepositoryName, bool]]]
    hosted: Callable[[str, int], list[RepositoryName]]
    mirrored: Callable[[], Iterator[RepositoryKey]]
    has_hosted: Callable[[RepositoryName], bool]


@attrs.frozen(kw_only=True)
class Router:
    """Finds repositories: by request, by key, and all that are stored."""

    _by_name: dict[str, UpstreamRoute]
    _by_prefix: dict[str, UpstreamRoute]
    _hosted_patterns: tuple[str, ...]
    _open_mirrored: Callable[[RepositoryKey], Repository]
    _open_hosted: Callable[[RepositoryKey], Repository]
    _stored: StoredRepositories

    @classmethod
    def of(
        cls,
        upstreams: Iterable[UpstreamRoute],
        *,
        hosted_patterns: tuple[str, ...] = (),
        open_mirrored: Callable[[RepositoryKey], Repository],
        open_hosted: Callable[[RepositoryKey], Repository],
        stored: StoredRepositories,
    ) -> "Router":
        """Return the router of these upstreams, whose names and prefixes differ."""
        by_name = {upstream.name: upstream for upstream in upstreams}
        return cls(
            by_name=by_name,
            by_prefix={upstream.prefix: upstream for upstream in by_name.values() if upstream.prefix},
            hosted_patterns=hosted_patterns,
            open_mirrored=open_mirrored,
            open_hosted=open_hosted,
            stored=stored,
        )

    def locate(self, target: Target, default: str) -> Repository:
        """Return the repository that `target` names, on a listener whose own upstream is `default`.

        Raises:
            NameUnknown: No upstream has that name.
            Denied: The configuration does not allow this repository to be mirrored.
        """
        return self.open(self.locate_key(target, default))

    def locate_key(self, target: Target, default: str) -> RepositoryKey:
        """Return the key of the repository that `target` names; raises as `locate`."""
        if isinstance(target.route, Ping | CatalogRoute):
            raise NameUnknown("the path names no repository")
        name = target.route.repository
        upstream = self._named_outside(target)
        is_prefixed = target.prefix is not None
        if target.prefix is None:
            upstream, name, is_prefixed = self._strip_prefix(upstream, name)
        if upstream is None:
            if _matches(name, self._hosted_patterns):
                return RepositoryKey.hosted(name)
            upstream = self._by_name[default]
        if is_prefixed:
            name = _official(upstream, name)
        if not upstream.is_allowed(name):
            raise Denied(f"this mirror is not configured to mirror {upstream.name}/{name}")
        return RepositoryKey(upstream.name, name)

    def locate_image(self, reference: ImageReference) -> Repository:
        """Return the repository of an image reference, as an operator writes it; raises as `locate`."""
        if reference.key.is_hosted:
            return self.open(reference.key)
        route = ManifestRoute(reference.repository, reference.manifest_reference)
        target = Target(route, namespace=reference.registry)
        return self.locate(target, reference.registry)

    def open(self, key: RepositoryKey) -> Repository:
        """Return the repository of a key, also if the configuration no longer lets clients read it."""
        return self._open_hosted(key) if key.is_hosted else self._open_mirrored(key)

    def is_known(self, namespace: str) -> bool:
        """Return whether an upstream has this name."""
        return canonical_registry(namespace.lower()) in self._by_name

    def is_hosted(self, name: RepositoryName) -> bool:
        """Return whether a name without a registry means a hosted repository, configured or stored."""
        return self.is_hosted_by_configuration(name) or self._stored.has_hosted(name)

    def is_hosted_by_configuration(self, name: RepositoryName) -> bool:
        """Return whether a client that names no upstream means a hosted repository by this name."""
        upstream, rest, _ = self._strip_prefix(None, name)
        return upstream is None and _matches(rest, self._hosted_patterns)

    def resolve_scope(self, name: RepositoryName) -> Iterator[RepositoryKey]:
        """Iterate over the repositories that a token's scope may mean by a name.

        A scope has neither `ns` nor a path, so a name may stand for several.
        """
        if self.is_hosted_by_configuration(name):
            yield RepositoryKey.hosted(name)
        for upstream in self._by_name.values():
            for each in {name, _official(upstream, name)}:
                yield RepositoryKey(upstream.name, each)
        prefixed, rest, is_prefixed = self._strip_prefix(None, name)
        if prefixed is not None and is_prefixed:
            yield RepositoryKey(prefixed.name, _official(prefixed, rest))

    def stored(self) -> Iterator[RepositoryKey]:
        """Iterate over the stored repositories, hosted ones first, each kind sorted."""
        for name in self._hosted_after(""):
            yield RepositoryKey.hosted(name)
        yield from self._stored.mirrored()

    def catalog(self, target: Target, default: str, last: str) -> Iterator[tuple[str, RepositoryKey | None]]:
        """Iterate over the repositories with stored manifests whose names sort after `last`.

        The names are those that clients of a listener use: repositories of its own upstream (`default`) stand
        as they are, others behind their prefix. Only those of the upstream that `target` names are listed, or
        else all, hosted ones included. Of two repositories with one name the first is the one that clients
        mean. They are read as they are consumed; the key is None for one without a stored manifest, so that a
        consumer can yield to the reactor between them.

        Raises:
            NameUnknown: `target` names an unknown upstream.
        """
        named = self._named_outside(target)
        if named is not None:
            return self._of_upstream("", named.name, last)
        prefixes = {
            upstream.name: "" if upstream.name == default else f"{upstream.prefix or upstream.name}/"
            for upstream in self._by_name.values()
        }
        # A prefix wins over the listener's own upstream, as in `locate`: of one name it comes first.
        by_prefix = sorted(prefixes.items(), key=lambda item: item[1], reverse=True)
        hosted = ((name.name, RepositoryKey.hosted(name)) for name in self._hosted_after(last))
        streams: list[Iterator[tuple[str, RepositoryKey | None]]] = [hosted]
        streams += [self._of_upstream(prefix, name, last) for name, prefix in by_prefix]
        return merge(*streams, key=lambda item: item[0])

    def check_upstream(self, target: Target) -> None:
        """Check that the upstream that `target` names, if any, is known.

        Raises:
            NameUnknown: It is not.
        """
        self._named_outside(target)

    def _named_outside(self, target: Target) -> UpstreamRoute | None:
        """Return the upstream that is named outside the repository's name: by `ns` or before `/v2/`."""
        prefixed = None
        if target.prefix is not None:
            prefixed = self._by_prefix.get(target.prefix)
            if prefixed is None:
                raise NameUnknown("no upstream has this prefix", detail=target.prefix[:256])
        if target.namespace is None:
            return prefixed
        named = self._by_name.get(canonical_registry(target.namespace.lower()))
        if named is None:
            raise NameUnknown("this mirror does not know that registry", detail=target.namespace[:256])
        if prefixed is not None and prefixed is not named:
            raise NameUnknown("the path's prefix and ns mean different upstreams")
        return named

    def _strip_prefix(
        self, named: UpstreamRoute | None, name: RepositoryName
    ) -> tuple[UpstreamRoute | None, RepositoryName, bool]:
        """Strip a prefix from a repository's name, unless it contradicts the upstream named outside."""
        prefixed = self._by_prefix.get(name.name.partition("/")[0])
        if prefixed is None or prefixed.prefix is None or named not in (None, prefixed):
            return named, name, False
        rest = name.without_prefix(prefixed.prefix)
        return (named, name, False) if rest is None else (prefixed, rest, True)

    def _of_upstream(
        self, prefix: str, upstream: str, last: str
    ) -> Iterator[tuple[str, RepositoryKey | None]]:
        """Iterate over the stored repositories of an upstream that sort after `last` behind their prefix."""
        if last >= prefix and not last.startswith(prefix):
            return
        after = last.removeprefix(prefix) if last.startswith(prefix) else ""
        while page := self._stored.of_upstream(upstream, after, _MIRRORED_PAGE):
            for name, has_manifest in page:
                yield f"{prefix}{name}", RepositoryKey(upstream, name) if has_manifest else None
            after = page[-1][0].name

    def _hosted_after(self, last: str) -> Iterator[RepositoryName]:
        while page := self._stored.hosted(last, _HOSTED_PAGE):
            yield from page
            last = page[-1].name


def _matches(name: RepositoryName, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.name, pattern) for pattern in patterns)


def _official(upstream: UpstreamRoute, name: RepositoryName) -> RepositoryName:
    """Put Docker Hub's official images under `library/`, which users leave out after a prefix."""
    if upstream.name == DOCKER_HUB and "/" not in name.name:
        return RepositoryName(f"library/{name.name}")
    return name
