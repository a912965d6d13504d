"""Listing of the stored repositories, with their tags and sizes on the disk."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from fnmatch import fnmatchcase

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.admin.results import ListedRepository, ListedTag, document, encode
from mirrord.flight.cooperate import cooperate
from mirrord.oci.content import ContentKind
from mirrord.oci.errors import NameInvalid
from mirrord.oci.references import ImageReference
from mirrord.repository import Repository
from mirrord.routing import Router

_MAX_PATTERN = 512
"""The longest pattern; names are shorter. 20,000 brackets would block the reactor for half a minute."""


@attrs.frozen(eq=False)
class RepositoryLister:
    """Lists repositories; `flush` brings the lists of the store up to date."""

    _router: Router
    _flush: Callable[[], Awaitable[None]]
    _clock: IReactorTime
    _log = Logger()

    async def list(self, pattern: str) -> AsyncGenerator[ListedRepository, None]:
        """Iterate over the repositories whose name, short or whole, matches a shell pattern, hosted first.

        Raises:
            NameInvalid: The pattern is longer than any name.
        """
        if len(pattern) > _MAX_PATTERN:
            raise NameInvalid("the pattern is longer than any name")
        try:
            await self._flush()
        except OSError as error:
            self._log.warn("the list may be out of date: {error}", error=str(error))
        async for key in cooperate(self._clock, self._router.stored()):
            name = ImageReference.of(key).familiar_name
            if fnmatchcase(name, pattern) or fnmatchcase(str(key), pattern):
                yield await self._describe(self._router.open(key), name)

    async def _describe(self, repository: Repository, name: str) -> ListedRepository:
        pages: list[str] = []
        counts, size, last_used = {ContentKind.MANIFEST: 0, ContentKind.BLOB: 0}, 0, 0.0
        async for stored_tags in cooperate(self._clock, repository.stored_tags()):
            last_used = max([last_used, *(tag.used_at for tag in stored_tags)])
            pages.append(",".join(encode(document(ListedTag.of(tag))) for tag in stored_tags))
        async for contents in cooperate(self._clock, repository.stored_content()):
            for content in contents:
                last_used = max(last_used, content.used_at)
                if content.kind is not None:
                    counts[content.kind] += 1
                    size += content.size
        return ListedRepository(
            upstream=repository.key.upstream,
            repository=repository.key.repository,
            name=name,
            tags=tuple(filter(None, pages)),
            manifests=counts[ContentKind.MANIFEST],
            blobs=counts[ContentKind.BLOB],
            bytes=size,
            last_used=last_used,
        )
