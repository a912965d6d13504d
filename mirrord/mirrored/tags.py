"""Pulling lists of names: the tags of a repository, as its upstream has them; what is held, by us."""

from collections.abc import Iterator, Mapping
from heapq import merge

import attrs

from mirrord.mirrored.list_cache import ListCache
from mirrord.mirrored.ports import LinkIndex, Upstream
from mirrord.mirrored.timeouts import ASK_SECONDS
from mirrord.oci.cache_status import with_cache_status
from mirrord.oci.names import RepositoryKey
from mirrord.oci.routes import Target
from mirrord.repository import TagListResult
from mirrord.routing import Router

_PAGE = 50
"""Repositories of an upstream that are read at once: a millisecond, and there may be many upstreams."""


@attrs.define(eq=False)
class MirroredTags:
    """Answers lists of tags."""

    _upstreams: Mapping[str, Upstream]
    _lists: ListCache[RepositoryKey, tuple[str, ...]]

    @with_cache_status
    async def list(self, source: RepositoryKey) -> TagListResult:
        """All tags of the repository, sorted.

        Raises:
            NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed, and no list is remembered.
        """
        return TagListResult(*await self._lists.get(source, source, lambda: self._ask(source)))

    async def _ask(self, source: RepositoryKey) -> tuple[str, ...]:
        upstream = self._upstreams[source.upstream]
        return tuple(await upstream.list_tags(source.repository, budget_seconds=ASK_SECONDS))


@attrs.define(eq=False)
class MirroredCatalog:
    """The repositories of which manifests are held, as a client of one listener would name them."""

    _index: LinkIndex
    _sources: Router

    def repositories(
        self, target: Target, default: str, last: str
    ) -> Iterator[tuple[str, RepositoryKey | None]]:
        """They after `last`, in order of their names: of the upstream that `target` names, else of all.

        Those of the listener's own upstream stand as they are, others behind their prefix. They are read
        as they are taken; None stands for one of which nothing is held any more.

        Raises:
            NameUnknown: `target` names an upstream that is not known.
        """
        said = self._sources.upstream_of(target)
        if said is not None:
            return self._behind("", said, last)
        leads = {
            origin.name: "" if origin.name == default else f"{origin.prefix or origin.name}/"
            for origin in self._sources.origins()
        }
        # A prefix goes before the listener's own upstream, as in sources.py: of one name it is the first.
        by_lead = sorted(leads.items(), key=lambda named: named[1], reverse=True)
        streams = [self._behind(lead, name, last) for name, lead in by_lead]
        return merge(*streams, key=lambda named: named[0])

    def _behind(self, lead: str, upstream: str, last: str) -> Iterator[tuple[str, RepositoryKey | None]]:
        """The repositories of an upstream, behind what stands before their names, that sort after `last`."""
        if last >= lead and not last.startswith(lead):
            return
        after = last.removeprefix(lead) if last.startswith(lead) else ""
        while page := self._index.repositories(upstream, after, _PAGE):
            for repository, is_held in page:
                yield f"{lead}{repository}", RepositoryKey(upstream, repository) if is_held else None
            after = page[-1][0].name
