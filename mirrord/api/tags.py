"""Lists of names, page by page: `/v2/<repository>/tags/list` and `/v2/_catalog`."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice
from typing import ClassVar
from urllib.parse import urlencode

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.access.authenticator import Caller
from mirrord.access.rules import Action
from mirrord.api.ports import Catalog, Tags
from mirrord.api.resource import RegistryRequest, RepositoryResponse
from mirrord.flight.cooperate import yield_to_reactor
from mirrord.hosted.reading import HostedReader
from mirrord.http.response import Header, Response
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.names import HOSTED, RepositoryKey, Tag
from mirrord.oci.routes import CatalogRoute, Page, TagsRoute, Target

_DEFAULT_PAGE = 100
"""As other registries answer who asks for no page of a catalog (distribution, handlers/catalog.go)."""

_SLICE = 50
"""Repositories that are looked at in a turn of the reactor: with many rules, some milliseconds."""


@attrs.frozen
class TagsResource:
    """Answers with the tags of a repository."""

    kind: ClassVar[str] = "tags"

    _tags: Tags

    async def reply(self, asked: RegistryRequest) -> RepositoryResponse:
        """One page of tags, sorted; what the upstream lists and is no tag could not be pulled."""
        route = asked.target.route
        assert isinstance(route, TagsRoute)  # noqa: S101 - the root dispatches by type
        pulled = await self._tags.list(asked.source)
        path = f"{route.repository}/tags/list"
        tags, link = paginate(route.page, pulled.tags, asked.target, path, Tag.is_one)
        answer = Response.of_json({"name": str(route.repository), "tags": tags}, *link)
        return RepositoryResponse.of_bytes(pulled.outcome, answer.body, *answer.headers)


@attrs.frozen
class HostedTagsResource:
    """Answers with the tags of a hosted repository, of which it reads no more than it shows."""

    kind: ClassVar[str] = "tags"

    _reader: HostedReader

    async def reply(self, asked: RegistryRequest) -> RepositoryResponse:
        """One page of tags, sorted; none of a repository that holds nothing."""
        route = asked.target.route
        assert isinstance(route, TagsRoute)  # noqa: S101 - the root dispatches by type
        page = route.page
        limit = None if page.limit is None else page.limit + 1
        held = await self._reader.tags(route.repository, page.last, limit)
        tags, link = paginate(page, held, asked.target, f"{route.repository}/tags/list")
        answer = Response.of_json({"name": str(route.repository), "tags": tags}, *link)
        return RepositoryResponse.of_bytes(CacheResult.hit(), answer.body, *answer.headers)


@attrs.frozen
class CatalogResource:
    """Answers with the repositories that are held, mirrored and hosted."""

    _catalog: Catalog
    _reader: HostedReader
    _default: str
    _clock: IReactorTime

    async def answer(self, target: Target, caller: Caller, *headers: Header) -> Response:
        """One page of the repositories that the caller may read, sorted."""
        route = target.route
        assert isinstance(route, CatalogRoute)  # noqa: S101 - the root dispatches by type
        limit = _DEFAULT_PAGE if route.page.limit is None else route.page.limit
        page = Page(limit, route.page.last)
        held = await self._readable(target, caller, page.last, limit + 1)
        repositories, link = paginate(page, held, target, "_catalog")
        return Response.of_json({"repositories": repositories}, *headers, *link)

    async def _readable(self, target: Target, caller: Caller, last: str, limit: int) -> list[str]:
        """What the caller may read after `last`, in order, `limit` at most; others have turns.

        Of two repositories of one name the client means the hosted one.
        """
        named = self._catalog.repositories(target, self._default, last)
        if target.namespace is None and target.prefix is None:
            hosted = ((one.name, RepositoryKey(HOSTED, one)) for one in self._reader.repositories(last))
            named = merge(hosted, named, key=lambda held: held[0])
        readable: list[str] = []
        seen = ""
        for number, (name, source) in enumerate(named, 1):
            if source is not None and name != seen:
                seen = name
                if caller.is_allowed(Action.PULL, source):
                    readable.append(name)
            if len(readable) == limit:
                break
            if number % _SLICE == 0:
                await yield_to_reactor(self._clock)
        return readable


def paginate(
    page: Page,
    names: Sequence[str],
    target: Target,
    path: str,
    is_shown: Callable[[str], bool] | None = None,
) -> tuple[list[str], tuple[Header, ...]]:
    """The names on a page, and the Link to the next one where there is more.

    Names that are not to be shown are passed over. Looked at are those of the page alone: a list
    may have tens of thousands.

    The link is relative, and keeps what the client used to name the upstream: `ns`, or what stood
    before `/v2/`. A page of no names has no next.
    """
    rest = names[bisect_right(names, page.last) :] if page.last else names
    shown = list(islice(filter(is_shown, rest), None if page.limit is None else page.limit + 1))
    if page.limit is None or len(shown) <= page.limit:
        return shown, ()
    del shown[page.limit :]
    if not shown:
        return [], ()
    query = {"n": str(page.limit), "last": shown[-1]}
    if target.namespace is not None:
        query["ns"] = target.namespace
    before = f"/{target.prefix}" if target.prefix else ""
    link = f'<{before}/v2/{path}?{urlencode(query)}>; rel="next"'
    return shown, ((b"Link", link.encode("ascii")),)
