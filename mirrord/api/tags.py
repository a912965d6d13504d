"""Lists of names, page by page: `/v2/<repository>/tags/list` and `/v2/_catalog`."""

from collections.abc import Sequence
from urllib.parse import urlencode

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.access.authenticator import Caller
from mirrord.access.rules import Action
from mirrord.api.registry_request import RegistryRequest
from mirrord.flight.cooperate import yield_to_reactor
from mirrord.http.response import Header, Response
from mirrord.oci.routes import CatalogRoute, Page, TagsRoute, Target
from mirrord.routing import Router

_DEFAULT_PAGE = 100
"""The page size of a catalog for clients that request none, as in distribution (handlers/catalog.go)."""

_REPOSITORIES_A_SLICE = 50
"""Repositories checked between two yields to the reactor: with many rules, some milliseconds."""


@attrs.frozen
class TagsHandler:
    """Responds with the tags of a repository."""

    async def read(self, request: RegistryRequest, route: TagsRoute) -> Response:
        """Return one page of tags, sorted."""
        result = await request.repository.list_tags(route.page)
        tags, link = paginate(route.page, result.tags, request.target, f"{route.repository}/tags/list")
        response = Response.of_json({"name": str(route.repository), "tags": tags}, *link)
        return attrs.evolve(response, cache=result.cache)


@attrs.frozen
class CatalogHandler:
    """Responds with the stored repositories that a client may read; `default` is the own upstream."""

    _router: Router
    _default: str
    _clock: IReactorTime

    async def read(self, target: Target, route: CatalogRoute, caller: Caller, *headers: Header) -> Response:
        """Return one page of repositories, sorted."""
        page = Page(_DEFAULT_PAGE if route.page.limit is None else route.page.limit, route.page.last)
        names = await self._readable(target, caller, page)
        repositories, link = paginate(page, names, target, "_catalog")
        return Response.of_json({"repositories": repositories}, *headers, *link)

    async def _readable(self, target: Target, caller: Caller, page: Page) -> list[str]:
        """Return the readable names of a page, and one more if there are any after it."""
        readable: list[str] = []
        previous = ""
        names = self._router.catalog(target, self._default, page.last)
        for number, (name, key) in enumerate(names, 1):
            if key is not None and name != previous:
                previous = name
                if caller.is_allowed(Action.PULL, key):
                    readable.append(name)
            if page.limit is not None and len(readable) > page.limit:
                break
            if number % _REPOSITORIES_A_SLICE == 0:
                await yield_to_reactor(self._clock)
        return readable


def paginate(
    page: Page, names: Sequence[str], target: Target, path: str
) -> tuple[list[str], tuple[Header, ...]]:
    """Return the names of a page, and the Link to the next one if `names` has more.

    The link is relative and names the upstream as the request does: by `ns`, or by the prefix before `/v2/`.
    An empty page has no next one.
    """
    if page.limit is None or len(names) <= page.limit:
        return list(names), ()
    shown = list(names[: page.limit])
    if not shown:
        return [], ()
    query = {"n": str(page.limit), "last": shown[-1]}
    if target.namespace is not None:
        query["ns"] = target.namespace
    prefix = f"/{target.prefix}" if target.prefix else ""
    link = f'<{prefix}/v2/{path}?{urlencode(query)}>; rel="next"'
    return shown, ((b"Link", link.encode("ascii")),)
