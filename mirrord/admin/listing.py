"""Listing: the repositories that are held, with their tags and what they take of the disk."""

from collections.abc import AsyncGenerator, Callable, Iterator
from fnmatch import fnmatchcase

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.admin.hosted_ports import HostedIndex
from mirrord.admin.results import ListedRepository, ListedTag
from mirrord.admin.store_ports import Inventory
from mirrord.flight.cooperate import cooperate
from mirrord.oci.content import ContentKind
from mirrord.oci.errors import NameInvalid
from mirrord.oci.names import HOSTED, RepositoryKey
from mirrord.oci.references import ImageReference

_MAX_PATTERN = 512
"""Names are no longer. One of 20,000 brackets is read for half a minute, and nobody is served meanwhile."""


@attrs.define(eq=False)
class RepositoryLister:
    """Lists repositories. `tag_ttl` says for how many seconds an upstream's tags are fresh."""

    _inventory: Inventory
    _hosted: HostedIndex
    _tag_ttl: Callable[[str], float]
    _clock: IReactorTime
    _log = Logger()

    async def list(self, pattern: str) -> AsyncGenerator[ListedRepository, None]:
        """The repositories whose name, short or whole, is like the shell pattern; sorted, hosted ones first.

        Raises:
            NameInvalid: The pattern is longer than any name.
        """
        if len(pattern) > _MAX_PATTERN:
            raise NameInvalid("the pattern is longer than any name")
        try:
            await self._inventory.flush()
        except OSError as error:
            self._log.warn("what is listed is older than it could be: {error}", error=str(error))
        for sources, look in (
            (self._hosted_sources(), self._hosted_repository),
            (self._inventory.sources(), self._repository),
        ):
            async for source in cooperate(self._clock, sources):
                name = ImageReference.of(source).familiar_name
                if fnmatchcase(name, pattern) or fnmatchcase(str(source), pattern):
                    yield await look(source, name)

    def _hosted_sources(self) -> Iterator[RepositoryKey]:
        after = ""
        while found := self._hosted.repositories(after, 1):
            yield RepositoryKey(HOSTED, found[0])
            after = found[0].name

    async def _hosted_repository(self, source: RepositoryKey, name: str) -> ListedRepository:
        repository = source.repository
        tags: list[ListedTag] = []
        counts, size, last_used = {ContentKind.MANIFEST: 0, ContentKind.BLOB: 0}, 0, 0.0
        async for tagged in cooperate(self._clock, self._hosted.tagged(repository)):
            for tag, digest, at in tagged:
                last_used = max(last_used, at)
                is_held = self._inventory.size_of(ContentKind.MANIFEST, digest) is not None
                tags.append(ListedTag(tag, digest, at, None, is_held))
        async for links in cooperate(self._clock, self._hosted.links(repository)):
            for link in links:
                last_used = max(last_used, link.linked_at)
                kind = ContentKind.MANIFEST if link.is_manifest else ContentKind.BLOB
                held = self._inventory.size_of(kind, link.descriptor.digest)
                if held is not None:
                    counts[kind] += 1
                    size += held
        return ListedRepository(
            HOSTED,
            repository,
            name,
            tuple(tags),
            counts[ContentKind.MANIFEST],
            counts[ContentKind.BLOB],
            size,
            last_used,
        )

    async def _repository(self, source: RepositoryKey, name: str) -> ListedRepository:
        tags: list[ListedTag] = []
        counts, size, last_used = {ContentKind.MANIFEST: 0, ContentKind.BLOB: 0}, 0, 0.0
        async for known_tags in cooperate(self._clock, self._inventory.tags(source)):
            for known in known_tags:
                last_used = max(last_used, known.used_at)
                newest = known.record.newest
                if newest is not None:
                    digest, seen_at = newest.descriptor.digest, newest.observed_at
                    fresh_until = seen_at + self._tag_ttl(source.upstream)
                    is_held = newest is known.record.cached
                    tags.append(ListedTag(known.tag, digest, seen_at, fresh_until, is_held))
        async for holdings in cooperate(self._clock, self._inventory.content_links(source)):
            for holding in holdings:
                last_used = max(last_used, holding.used_at)
                if holding.kind is not None:
                    counts[holding.kind] += 1
                    size += holding.size
        return ListedRepository(
            source.upstream,
            source.repository,
            name,
            tuple(tags),
            counts[ContentKind.MANIFEST],
            counts[ContentKind.BLOB],
            size,
            last_used,
        )
