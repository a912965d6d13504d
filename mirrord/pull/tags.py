"""Pulling lists of names: the tags of a repository, as its upstream has them; what is held, by us."""

from collections.abc import Mapping

import attrs

from mirrord.oci.names import Source
from mirrord.oci.routes import Target
from mirrord.pull.answers import PulledTags
from mirrord.pull.lists import Lists
from mirrord.pull.outcome import explained
from mirrord.pull.patience import ASK_SECONDS
from mirrord.pull.ports import Index, Upstream
from mirrord.pull.sources import Sources


@attrs.define(eq=False)
class TagLister:
    """Answers lists of tags."""

    _upstreams: Mapping[str, Upstream]
    _lists: Lists[Source, tuple[str, ...]]

    @explained
    async def list(self, source: Source) -> PulledTags:
        """All tags of the repository, sorted.

        Raises:
            NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed, and no list is remembered.
        """
        return PulledTags(*await self._lists.get(source, source, lambda: self._ask(source)))

    async def _ask(self, source: Source) -> tuple[str, ...]:
        upstream = self._upstreams[source.upstream]
        return tuple(await upstream.list_tags(source.repository, budget_seconds=ASK_SECONDS))


@attrs.define(eq=False)
class Catalog:
    """The repositories of which manifests are held, as a client of one listener would name them."""

    _index: Index
    _sources: Sources

    def repositories(self, target: Target, default: str) -> dict[str, Source]:
        """They by their names: of the upstream that `target` names, else of all.

        Those of the listener's own upstream stand as they are, others behind their prefix.

        Raises:
            NameUnknown: `target` names an upstream that is not known.
        """
        said = self._sources.upstream_of(target)
        if said is not None:
            return {one.name: Source(said, one) for one in self._index.repositories(said)}
        named: dict[str, Source] = {}
        for origin in self._sources.origins():
            lead = "" if origin.name == default else f"{origin.prefix or origin.name}/"
            held = self._index.repositories(origin.name)
            named |= {f"{lead}{one}": Source(origin.name, one) for one in held}
        return named
