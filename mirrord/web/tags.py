"""Lists of names, page by page: `/v2/<repository>/tags/list` and `/v2/_catalog`."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import islice
from typing import ClassVar
from urllib.parse import urlencode

import attrs

from mirrord.listen.answer import Answer, Header
from mirrord.oci.names import Tag
from mirrord.oci.routes import CatalogRoute, Page, TagsRoute, Target
from mirrord.web.ports import Catalog, Tags
from mirrord.web.resource import Asked, Reply


@attrs.frozen
class TagsResource:
    """Answers with the tags of a repository."""

    kind: ClassVar[str] = "tags"

    _tags: Tags

    async def reply(self, asked: Asked) -> Reply:
        """One page of tags, sorted; what the upstream lists and is no tag could not be pulled."""
        route = asked.target.route
        assert isinstance(route, TagsRoute)  # noqa: S101 - the root dispatches by type
        pulled = await self._tags.list(asked.source)
        path = f"{route.repository}/tags/list"
        tags, link = turn(route.page, pulled.tags, asked.target, path, Tag.is_one)
        answer = Answer.of_json({"name": str(route.repository), "tags": tags}, *link)
        return Reply.of_bytes(pulled.outcome, answer.body, *answer.headers)


@attrs.frozen
class CatalogResource:
    """Answers with the repositories that are held."""

    _catalog: Catalog
    _default: str

    def answer(self, target: Target, *headers: Header) -> Answer:
        """One page of repositories, sorted."""
        route = target.route
        assert isinstance(route, CatalogRoute)  # noqa: S101 - the root dispatches by type
        held = self._catalog.repositories(target, self._default)
        repositories, link = turn(route.page, held, target, "_catalog")
        return Answer.of_json({"repositories": repositories}, *headers, *link)


def turn(
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
    before = f"/{target.leading}" if target.leading else ""
    link = f'<{before}/v2/{path}?{urlencode(query)}>; rel="next"'
    return shown, ((b"Link", link.encode("ascii")),)
